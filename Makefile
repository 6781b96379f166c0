# Two commands do everything on a machine with Python 3.10 or later and make:
#   make quickstart   environment, small corpus, fit, test, predict
#   make test         environment, the whole test suite
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORPUS := quickstart/corpus
RUN := quickstart/run

# One thread to compute and one process to load, on two cores: with more threads than free cores, those that wait
# for the others spin, and everything takes several times as long.
export OMP_NUM_THREADS ?= 1

.PHONY: quickstart test lint clean
.DELETE_ON_ERROR:

# Made anew only when the dependencies change.
$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("abaw needs Python 3.10 or later, this is " + sys.version) if sys.version_info < (3, 10) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

$(CORPUS): | $(VENV)/.ready
	$(BIN)/abaw synth $(CORPUS)

quickstart: $(VENV)/.ready $(CORPUS)
	$(BIN)/abaw fit --config examples/quickstart.yaml --data.root $(CORPUS) --trainer.default_root_dir $(RUN)
	$(BIN)/abaw test --run $(RUN)
	$(BIN)/abaw predict --run $(RUN)
	@echo
	@echo "The results are in $(RUN):"
	@echo "  test/test.json, test/confusion_matrix.png          how good it is"
	@echo "  predictions/predictions.txt, predictions/scores/   the submission, and every video's scores"
	@echo "  checkpoints/best.ckpt, config.yaml                 the model"
	@echo "Next, train on Aff-Wild2:"
	@echo "  $(BIN)/abaw fit --config examples/affwild2_beit_wavlm.yaml --data.root /path/to/Aff-Wild2"

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow" --cov --cov-report=
	$(BIN)/python -m pytest -n auto --dist loadfile -m slow --cov --cov-append --cov-report=term --cov-fail-under=90

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) quickstart
