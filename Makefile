# make demo   restyles a real clip: out/demo.mp4, out/demo.png          make test   packages, lint, builds, all tests
# make build  release plugin and command line                            make install DESTDIR=…
SHELL := /bin/sh
STATIC := .build-static
RELEASE := $(STATIC)/release
SWIFT_BUILD := VIDEOLORA_STATIC=1 swift build -c release --scratch-path $(STATIC) --static-swift-stdlib -Xswiftc -use-ld=lld
PREFIX ?= /usr/local

.PHONY: demo test build install packages plugin lint imports symbols pipelines unit bench results-windows results-speed \
  results-precision results-cache results-rss results-nano adapter results-lion results-motionlora soak fuzz clean

demo: build
	@pipelines/demo.sh

# The runner's own summary comes last.
test: packages lint imports build symbols pipelines unit

packages:
	@.ci/packages.sh

plugin: packages
	$(SWIFT_BUILD) --product gstvideolora

build: plugin
	$(SWIFT_BUILD) --product videolora
	@echo "plugin: GST_PLUGIN_PATH=$(CURDIR)/$(RELEASE)   command line: $(RELEASE)/videolora"

install: build
	install -Dm755 $(RELEASE)/libgstvideolora.so $(DESTDIR)$$(pkg-config --variable=pluginsdir gstreamer-1.0)/libgstvideolora.so
	install -Dm755 $(RELEASE)/videolora $(DESTDIR)$(PREFIX)/bin/videolora

lint:
	swift format lint --strict --recursive Package.swift Sources plugin Tests Benchmarks

imports:
	@.ci/check-imports.sh

# Two exported symbols, and no Swift library at run time.
symbols: plugin
	@test "$$(nm -D --defined-only $(RELEASE)/libgstvideolora.so | awk '{print $$3}' | sort | paste -sd ' ')" = \
	  "gst_plugin_videolora_get_desc gst_plugin_videolora_register" || { echo "the plugin exports other symbols"; exit 1; }
	@! ldd $(RELEASE)/libgstvideolora.so | grep -i libswift || { echo "the plugin needs a Swift library"; exit 1; }

pipelines: build
	@GST_REGISTRY=$(CURDIR)/$(STATIC)/registry.bin .ci/test-pipelines.sh

# One test at a time: some set process-wide things (SIMD level) or measure time.
unit: packages
	swift build -c release --build-tests
	GST_REGISTRY=$(CURDIR)/.build/registry.bin G_DEBUG=fatal-criticals timeout 1200 swift test -c release --skip-build --disable-xctest --no-parallel

# Figures of docs/RESULTS.md; the scripts are in tools/results and need Python with numpy.
results-windows: build
	tools/results/windows.sh $(RELEASE)/videolora

results-precision: build
	tools/results/precision.sh $(RELEASE)/videolora

# The engine beside diffusers: PEERS holds bench_diffusers.py, MODELS wan-full and animatediff-full, TINY animatediff-tiny (for memory
# alone). Goes on where it was interrupted.
results-speed: build
	swift build -c release --package-path Benchmarks
	tools/results/speed.sh $(RELEASE)/videolora --peers "$(PEERS)" --models "$(MODELS)" $(if $(SDCPP),--sdcpp "$(SDCPP)") \
	  $(if $(TINY),--tiny "$(TINY)") \
	  --benchmarks Benchmarks/.build/release/benchmarks

results-cache: build
	tools/results/cache.sh $(RELEASE)/videolora

# 2,000 clips through the element: growth of the process.
results-rss: build
	tools/results/rss.sh $(RELEASE) 2000

# Kernels, blocks and workloads beside this machine's ceilings.
bench: packages
	swift build -c release --package-path Benchmarks
	Benchmarks/.build/release/benchmarks
# Tables of the builtin model and its adapters; needs Python with torch, and ffmpeg. CLIPS: real clips; HELD_OUT: photos never trained
# on; JUDGE: folder of the judge kit, for the camera table.
CLIPS ?= $(wildcard media/*.mp4)
results-nano: build
	python3 tools/nano/results.py --videolora $(RELEASE)/videolora --clips $(CLIPS) $(if $(HELD_OUT),--held-out $(HELD_OUT)) \
	  $(if $(JUDGE),--judge $(JUDGE))

# An adapter of the builtin model by the engine's own trainer; needs Python with torch for its clips. NAME: a recipe of tools/nano/recipes;
# PHOTOS: folder of the photos in tools/nano/photos.tsv; SPRITES: of cut-outs, may be left out. Goes on where it was interrupted.
adapter: build
	VIDEOLORA=$(RELEASE)/videolora tools/nano/train.sh $(NAME) "$(PHOTOS)" "$(if $(WORK),$(WORK),out/nano)"

# LiON against a plain LoRA on the judge kit's base: clips, trainings, generated clips, tables, a verdict. Goes on where it was
# interrupted; LION="--jobs 2 --grid-seeds 16" and the like are handed on.
results-lion: build
	tools/results/lion.sh $(RELEASE)/videolora --judge "$(JUDGE)" --work "$(if $(WORK),$(WORK),out/lion)" $(LION)

# MotionLoRA on the tiny UNet of tools/bench-unet: sources, trainings, generated clips, a table, a verdict. Goes on where it was
# interrupted; MOTION="--seeds 16" and the like are handed on.
results-motionlora: build
	tools/results/motionlora.sh $(RELEASE)/videolora --judge "$(JUDGE)" --work "$(if $(WORK),$(WORK),out/motionlora)" $(MOTION)

# 200 lives of the element and pipelines under the leaks tracer.
soak: build
	GST_PLUGIN_PATH=$(CURDIR)/$(RELEASE) SWIFT_TEST_FLAGS="-c release" plugin/soak.sh 200

# Minutes of fuzzing for each reader of files; what it has learnt stays in .build-fuzz, so it goes on where it was.
MINUTES ?= 10
fuzz: packages
	Tests/Fuzz/fuzz.sh $(MINUTES)

clean:
	rm -rf .build .build-static out
