"""Schedulers of diffusers over given model outputs, options that the engine's `replay` should agree on.

Layout of a golden file: sched.<name>.<steps>.in.sample, .in.eps [steps, ...], .noise.<i> (the draws in their order),
.in.clean, .in.addnoise -> .out.timesteps, .out.sigmas, .out.prev, .out.scaled_inputs, .out.noisy; the .json says class and options.
"""
import inspect
import json
import sys
import diffusers
import torch
import diffusers.utils.torch_utils as torch_utils
from common import generator, write, write_text

BETAS = dict(beta_start=0.00085, beta_end=0.012)
FLOW = dict(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
V = dict(prediction_type="v_prediction")
ZERO_SNR = dict(rescale_betas_zero_snr=True, timestep_spacing="trailing", **V)
MIN = dict(final_sigmas_type="sigma_min")
UNIPC, DPM, EULER, DDIM = "UniPCMultistep", "DPMSolverMultistep", "EulerDiscrete", "DDIM"
CASES = {
    "unipc_order1": (UNIPC, dict(solver_order=1)), "unipc_order3": (UNIPC, dict(solver_order=3)),
    "unipc_flow_order3": (UNIPC, dict(solver_order=3, **FLOW)), "unipc_flow_karras": (UNIPC, dict(use_karras_sigmas=True, **FLOW)),
    "unipc_flow_min": (UNIPC, dict(**MIN, **FLOW)), "unipc_bh1": (UNIPC, dict(solver_type="bh1", solver_order=3, **MIN)),
    "unipc_noise": (UNIPC, dict(predict_x0=False, **V, **MIN)), "unipc_noise_sample": (UNIPC, dict(predict_x0=False, prediction_type="sample", **MIN)),
    "unipc_karras": (UNIPC, dict(use_karras_sigmas=True)), "unipc_exponential": (UNIPC, dict(use_exponential_sigmas=True, **MIN)),
    "unipc_leading": (UNIPC, dict(timestep_spacing="leading", steps_offset=1)), "unipc_uncorrected": (UNIPC, dict(disable_corrector=[0, 2], **V)),
    "unipc_zero_snr": (UNIPC, ZERO_SNR), "unipc_cosine": (UNIPC, dict(beta_schedule="squaredcos_cap_v2")),
    "dpm_order1": (DPM, dict(solver_order=1)), "dpm_order3": (DPM, dict(solver_order=3)), "dpm_heun": (DPM, dict(solver_type="heun", **V)),
    "dpm_sde": (DPM, dict(algorithm_type="sde-dpmsolver++")), "dpm_sde_heun": (DPM, dict(algorithm_type="sde-dpmsolver++", solver_type="heun", **MIN)),
    "dpm_sde_order3": (DPM, dict(algorithm_type="sde-dpmsolver++", solver_order=3)), "dpm_flow": (DPM, FLOW),
    "dpm_flow_order3": (DPM, dict(solver_order=3, **FLOW)), "dpm_exponential": (DPM, dict(use_exponential_sigmas=True)),
    "dpm_clipped": (DPM, dict(beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-3.0)),
    "dpm_final": (DPM, dict(euler_at_final=True, lower_order_final=False, **MIN)), "dpm_leading": (DPM, dict(timestep_spacing="leading", prediction_type="sample")),
    "dpm_trailing": (DPM, dict(timestep_spacing="trailing", use_karras_sigmas=False, **MIN)), "dpm_zero_snr": (DPM, ZERO_SNR),
    "euler_v": (EULER, V), "euler_sample": (EULER, dict(prediction_type="sample", timestep_spacing="trailing", **MIN)), "euler_zero_snr": (EULER, ZERO_SNR),
    "euler_exponential": (EULER, dict(use_exponential_sigmas=True)), "euler_karras_bounds": (EULER, dict(use_karras_sigmas=True, sigma_min=0.05, sigma_max=9.0)),
    "ancestral_v": ("EulerAncestralDiscrete", dict(timestep_spacing="leading", steps_offset=1, **V)), "ancestral_zero_snr": ("EulerAncestralDiscrete", ZERO_SNR),
    "ddim_clip": (DDIM, dict(clip_sample=True, clip_sample_range=0.8)), "ddim_zero_snr": (DDIM, dict(clip_sample=False, **ZERO_SNR)),
    "ddim_sample": (DDIM, dict(prediction_type="sample", clip_sample=False, beta_schedule="squaredcos_cap_v2")), "ddim_eta1": (DDIM, dict(clip_sample=False), dict(eta=1.0)),
    "ddim_trained": (DDIM, dict(num_train_timesteps=12, trained_betas=[0.01 + 0.02 * i for i in range(12)], clip_sample=False)),
    "lcm_v": ("LCM", dict(original_inference_steps=20, timestep_scaling=3.0, **V)), "lcm_clip": ("LCM", dict(clip_sample=True)),
    "lcm_flow": ("FlowMatchLCM", dict(shift=3.0)), "flow_euler": ("FlowMatchEulerDiscrete", dict(shift=2.0, num_train_timesteps=500)),
    "cog_ddim_linear": ("CogVideoXDDIM", dict(beta_schedule="linear", set_alpha_to_one=False, steps_offset=1, snr_shift_scale=2.0)),
    "cog_dpm_sample": ("CogVideoXDPM", dict(prediction_type="sample", snr_shift_scale=2.0)),
    "cog_dpm_linspace": ("CogVideoXDPM", dict(timestep_spacing="linspace", rescale_betas_zero_snr=True, **V)),
}
real, draws = torch_utils.randn_tensor, []


def recorded(shape, **kw):
    kw.pop("layout", None)
    draws.append(real(tuple(shape), **kw))
    return draws[-1]


for module in list(sys.modules.values()):
    if getattr(module, "__name__", "").startswith("diffusers") and module.__dict__.get("randn_tensor") is real:
        module.randn_tensor = recorded
tensors, info = {}, {}
shape = (1, 2, 2, 3)
for number, (name, (cls, options, *extra)) in enumerate(CASES.items()):
    for steps in ((5, 20) if name in ("dpm_order3", "unipc_flow_order3") else (5,)):
        cls_name = cls + "Scheduler"
        config = dict({} if "Flow" in cls_name or "flow" in name or "trained" in name else BETAS, **options)
        case, kind = f"sched.{name}.{steps}", getattr(diffusers, cls_name)
        g, noise = generator(number), generator(1000 + number)
        s = kind(**config)
        s.set_timesteps(steps)
        x = torch.randn(shape, generator=g) * float(getattr(s, "init_noise_sigma", 1.0))
        eps = torch.randn(steps, *shape, generator=g)
        tensors[f"{case}.in.sample"], tensors[f"{case}.in.eps"] = x, eps
        tensors[f"{case}.out.timesteps"] = s.timesteps.float()
        if getattr(s, "sigmas", None) is not None:
            tensors[f"{case}.out.sigmas"] = s.sigmas
        draws.clear()
        previous, scaled, old = [], [], None
        for i, t in enumerate(s.timesteps):
            if hasattr(s, "scale_model_input"):
                scaled.append(s.scale_model_input(x, t))
            if cls == "CogVideoXDPM":
                x, old = s.step(eps[i], old, t, s.timesteps[i - 1] if i else None, x, generator=noise, return_dict=False)
            else:
                kw = dict(extra[0] if extra else {})
                if "generator" in inspect.signature(s.step).parameters:
                    kw["generator"] = noise
                x = s.step(eps[i], t, x, return_dict=False, **kw)[0]
            assert torch.isfinite(x).all(), (case, i)
            previous.append(x)
        for i, draw in enumerate(draws):
            tensors[f"{case}.noise.{i}"] = draw
        tensors[f"{case}.out.prev"] = torch.stack(previous)
        if scaled:
            tensors[f"{case}.out.scaled_inputs"] = torch.stack(scaled)
        if hasattr(s, "add_noise"):
            again = kind(**config)
            again.set_timesteps(steps)
            a, b = torch.randn(shape, generator=g), torch.randn(shape, generator=g)
            tensors[f"{case}.in.clean"], tensors[f"{case}.in.addnoise"] = a, b
            tensors[f"{case}.out.noisy"] = again.add_noise(a, b, again.timesteps[2:3])
        info[case] = {"class": cls_name, "config": config, "step_kwargs": extra[0] if extra else {}, "steps": steps, "noisy_index": 2}
write("schedulers.safetensors", {k: v.float() for k, v in tensors.items()})
write_text("schedulers.json", json.dumps(info, indent=1) + "\n")
