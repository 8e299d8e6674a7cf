# The two commands of a newcomer: `make demo` and `make test`. Both make the environment first when it is missing.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
# Whoever starts ten processes a minute wants their imports compiled: uv leaves that to the first import.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo picture test lint install clean bench-calls bench-demo bench-load bench-registry bench-gate bench-releases bench-graders bench-cli bench-fan-out bench-spark stack litellm

demo: $(VENV)/installed
	$(RUN)/uniroute demo

# The pictures of README.md and routing/README.md, from what `make demo` left in .uniroute.
picture: $(VENV)/installed
	$(RUN)/python -m tests.bench.deferral_picture routing

# Four processes keep two cores busy: nights and servers wait a lot.
test: $(VENV)/installed lint
	$(RUN)/python -m pytest -n 4

lint: $(VENV)/installed
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/lint-imports

# The night's calls per second against a bare loop of the same client on the same server.
bench-calls: $(VENV)/installed
	$(RUN)/python -m tests.bench.calls

# How the dates and the cost weight of the demo were chosen, on prompts that its figures do not use.
bench-demo: $(VENV)/installed
	$(RUN)/python -m tests.bench.demo_choice

# A night of 20 LLMs and 2 000 prompts, with 5 % of the requests failing and without.
bench-load: $(VENV)/installed
	$(RUN)/python -m tests.bench.load

# How profiling scales over worker processes whose answers take 200 ms.
bench-fan-out: $(VENV)/installed
	$(RUN)/python -m tests.bench.fan_out

# How long the command line takes to start and to complete a name, against a bare interpreter.
bench-cli: $(VENV)/installed
	$(RUN)/python -m tests.bench.start_up

# Prompts per second from a Parquet file into another, on a local Spark (Java 17) and without, against bare loops.
bench-spark: $(VENV)/installed
	$(RUN)/python -m tests.bench.batches

# How often the gate is wrong over 200 simulated nights, with its correction and without.
bench-gate: $(VENV)/installed
	$(RUN)/python -m tests.bench.gate_nights

# What refits of the prior are worth as LLMs are released one after the other: folder DATA of recorded outcomes with dates.
bench-releases: $(VENV)/installed
	$(RUN)/python -m tests.bench.releases $(DATA)

# How the graders agree with recorded verdicts, against those of revision BEFORE, on the recorded answers of folder DATA.
BEFORE ?= main
bench-graders: $(VENV)/installed
	$(RUN)/python -m tests.bench.graders --before $(BEFORE) $(if $(DATA),--data $(DATA))

# A registry with ten million outcomes on PostgreSQL: space, and feature vectors of 1 000 LLMs by SQL (some minutes, 3 GB).
bench-registry: $(VENV)/installed
	$(RUN)/python -m tests.bench.growth

# PostgreSQL, MLflow and Prefect as processes; a worker is killed in the middle of a night. KEEP=--keep leaves them.
stack: $(VENV)/installed
	$(RUN)/python -m tests.stack $(KEEP)

# Two nights against LiteLLM's real proxy, from a pinned environment of its own (600 MB), whose providers go wrong.
litellm: $(VENV)/installed
	$(RUN)/python -m tests.litellm

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt .ci/install.py
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python .ci/install.py
	touch $@

clean:
	rm -rf $(VENV) .litellm .uniroute /dev/shm/uniroute-tests
