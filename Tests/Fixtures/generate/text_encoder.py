"""Tokenizer and text encoders, with expected outputs of transformers and diffusers.

wan_tiny/text_encoder, wan_tiny/tokenizer: a random UMT5 (gated GELU, position bias in every layer) and a SentencePiece model with
byte fallback, trained on the sentences below.  t5_tiny/text_encoder: a random T5 (ReLU, one position bias).
text_golden.safetensors + .json: `text.<i>` in the layout that `videolora replay` reads; `t5.<i>` the same for t5_tiny without a mask;
`embeds`: the Wan pipeline's embeddings of two prompts.
prompt_clean.json: what the pipeline's prompt_clean (ftfy, html.unescape) makes of texts."""
import io
import json
import os
from types import SimpleNamespace
import sentencepiece
import torch
from diffusers import WanPipeline
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from transformers import T5Config, T5EncoderModel, T5Tokenizer, UMT5Config, UMT5EncoderModel
from common import ROOT, generator, write, write_text

torch.manual_seed(7)
torch.set_num_threads(1)
g = generator(30)
randn = lambda *s: torch.randn(*s, generator=g)
WORDS = ("a red fox walks over snow ; the small boat floats near a golden bridge . two cats don't sleep , it's raining in the old "
         "town ! slow pan , film grain , 4k , (masterpiece:1.2) , close-up of a café señor über glass – night").split()
PROMPTS = ["a red fox walks over snow, film grain", "Two cats don't sleep: it's (masterpiece:1.2)!", "café señor über 42  frames", "",
           "漢字 🙂 ½ ﬁne </s> and <extra_id_7>red", "slow pan, " * 30]


def dump(name, value):
    write_text(name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


lines = [" ".join(WORDS[int(i)] for i in torch.randint(len(WORDS), (9,), generator=g)) for _ in range(2000)]
proto = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines), model_writer=proto, model_type="unigram", vocab_size=440, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
    pad_piece="<pad>", eos_piece="</s>", unk_piece="<unk>", byte_fallback=True, character_coverage=0.9995,
    normalization_rule_name="nmt_nfkc", hard_vocab_limit=False, num_threads=1, minloglevel=2)
folder = os.path.join(ROOT, "wan_tiny/tokenizer")
os.makedirs(folder, exist_ok=True)
with open(f"{folder}/spiece.model", "wb") as f:
    f.write(proto.getvalue())
dump("wan_tiny/tokenizer/tokenizer_config.json", dict(tokenizer_class="T5Tokenizer", extra_ids=300, model_max_length=512,
                                                      eos_token="</s>", unk_token="<unk>", pad_token="<pad>"))
spm = sentencepiece.SentencePieceProcessor(model_file=f"{folder}/spiece.model")
tokenizer = T5Tokenizer.from_pretrained(folder)
vocab = spm.get_piece_size() + 300


def encoder(cls, config, name):
    model = cls(config).eval().requires_grad_(False)
    for key, p in model.named_parameters():
        if p.ndim == 1:
            p.copy_(1 + 0.1 * randn(*p.shape))
        elif "shared" in key or "relative" in key:
            p.copy_(randn(*p.shape))
        else:  # the scores are not divided by the root of the head's width
            p.copy_(randn(*p.shape) / p.shape[1] ** (0.75 if ".q." in key else 0.5))
    model.save_pretrained(os.path.join(ROOT, name))
    os.chmod(os.path.join(ROOT, name, "model.safetensors"), 0o644)
    return model


umt5 = encoder(UMT5EncoderModel, UMT5Config(vocab_size=vocab, d_model=24, d_kv=6, num_heads=3, d_ff=40, num_layers=2), "wan_tiny/text_encoder")
t5 = encoder(T5EncoderModel, T5Config(vocab_size=40, d_model=16, d_kv=8, num_heads=2, d_ff=20, num_layers=3, feed_forward_proj="relu"), "t5_tiny/text_encoder")
tensors, cases = {}, {}


def spm_ids(text):
    """Special tokens as transformers splits them off, the rest by the model file itself."""
    ids, rest = [], text
    while True:
        found = [(rest.index(t), t) for t in ("</s>", "<extra_id_7>") if t in rest]
        if not found:
            return ids + spm.encode(rest) + [1]
        at, token = min(found)
        ids += spm.encode(rest[:at]) + [1 if token == "</s>" else vocab - 8]
        rest = rest[at + len(token):]


for i, prompt in enumerate(PROMPTS):
    t = tokenizer(prompt, padding="max_length", max_length=24 if i < 5 else 200, truncation=True, return_tensors="pt")
    tensors[f"text.{i}.in.ids"], tensors[f"text.{i}.in.mask"] = t.input_ids, t.attention_mask
    tensors[f"text.{i}.in.ids_spm"] = torch.tensor(spm_ids(prompt))
    tensors[f"text.{i}.out.hidden"] = umt5(t.input_ids, t.attention_mask).last_hidden_state
    cases[f"text.{i}"] = {"prompt": prompt}
for i, length in enumerate((7, 150)):
    tensors[f"t5.{i}.in.ids"] = torch.randint(40, (1, length), generator=g)
    tensors[f"t5.{i}.out.hidden"] = t5(tensors[f"t5.{i}.in.ids"])[0]

pipeline = SimpleNamespace(tokenizer=tokenizer, text_encoder=umt5, _execution_device=torch.device("cpu"))
# Only letters that the vocabulary has: transformers 5 gives T5Tokenizer no byte pieces.
prompts = ["  a red fox\n don&#39;t&nbsp;walk over ｓｎｏｗ ; a ﬁlm ", "slow pan, " * 30]
tensors["embeds"] = WanPipeline._get_t5_prompt_embeds(pipeline, prompts, max_sequence_length=40)
cases["embeds"] = {"prompts": prompts}
write("text_golden.safetensors", tensors)
dump("text_golden.json", cases)

TEXTS = PROMPTS[:5] + [
    "  white \t space\u00a0of\u3000every\u2003kind\r\nand\u2028lines \x0b\x0c\x1c\x85 end  ", "“curly” ‘quotes’ don’t ʼn „low‟ ‚single‛",
    "ﬀ ﬁ ﬂ ﬃ ﬄ ﬅ ﬆ Ĳ ĳ ŉ Ǆ ǅ ǆ Ǉ ǈ ǉ Ǌ ǋ ǌ Ǳ ǲ ǳ", "ＬＯＵＤ　ＮＯＩＳＥＳ！ （１２３） ～", "ｶﾞｷﾞ ﾊﾟﾋﾟ ｱｲｳ ｡｢｣､･ ｦｯｰ ﾞﾟ", "ﾠﾡﾢﾾￂￇￊￏￒￗￚￜ ￠￡￢￣￤￥￦￨￩￪￫￬￭￮",
    "cafe\u0301 A\u030a \u1100\u1161\u11a8 \u212b \u0344 e\u0323\u0302", "x\u0000y\u0007z\u007f\ufeff\u206a\ufff9\ufffc\u200dw\u200e", "\x1b[36;44mblue\x1b[0m \x1b[x \x1b(",
    "win\x80dows \x91c1\x92 \x93x\x94 \x85 \x81 \x9d", "&lt;b&gt; &amp;amp; &amp;amp;amp;quot; &quot;q&quot; &#39;a&#x2019;s &#X41; &#65; &#0; &#128; &#xD800; &#x110000; &#13;",
    "<b>&amp;amp;</b> &lt;", "one &amp;lt;\n<two> &amp;lt;\nthree &amp;lt;", "this&not that, &notit; &notin; AT&T &copy 2024 &copyx &ampamp; &amp", "&EACUTE;cole &NTILDE; &SZLIG; &COPY; &HELLIP; &LTIMES; &nTILDE;",
    "&nbsp;&ensp;&Tab;x&NewLine;y&ZeroWidthSpace;z &fjlig; &NotEqualTilde; &Zopf; &zwj;", "& &; &# &#; &#x; &#xg; &unknown; &a b; &#12ab; &#59; &#38;lt; &&amp;", "100% done; a & b && c; R&D &c. 5 &gt 3",
    "👩‍👩‍👧 🇩🇪 naïve Ω Ω µ ² ½ … — –", "עברית العربية हिन्दी ไทย 한국어 日本語 中文", "tag\U000e0067\U000e007f 𝒥ohn \ud7ff \ue000",
    "&" * 40, "&#" + "9" * 40 + ";", "&" + "a" * 40 + ";", "\u02bc\u02bb\u201b\u201f"]
dump("prompt_clean.json", [[t, prompt_clean(t)] for t in TEXTS])
