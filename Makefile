# Two commands for newcomers: `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
SOURCES := pyproject.toml requirements/constraints.txt README.md $(shell find packetclip_sensor mappings suricata_scripts zeek_scripts -type f -not -name '*.pyc')
PIP := -m pip --quiet --disable-pip-version-check
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint unit test-deps package lab pairs model folds evaluate faults hostile kafka fuzz constraints golden zkg compose clean

help: ## Say what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

demo: .venv-demo/.installed ## Install the sensor into .venv-demo, judge recorded traffic, print the alerts, write demo/report.html
	@mkdir -p demo; rm -f demo/alerts.ndjson demo/report.html
	.venv-demo/bin/packetclip replay tests/data --out demo/alerts.ndjson
	.venv-demo/bin/packetclip report demo/alerts.ndjson --out demo/report.html --title "PacketCLIP demo: recorded lab traffic"
	.venv-demo/bin/python tests/demo_check.py demo/alerts.ndjson tests/data

test: test-deps .venv/.installed lint unit ## Install what the tests need (also torch), then linters, types, Zeek scripts and all tests

lint: .venv/.installed ## Linters, types, and the Zeek scripts' form
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	@for script in $$(find zeek_scripts tests/zeek -name '*.zeek'); do \
	  .venv/bin/zeek-script parse "$$script" > /dev/null; \
	  .venv/bin/zeek-format < "$$script" | diff -u "$$script" - || { echo "$$script: run .venv/bin/zeek-format -i on it"; exit 1; }; \
	done; echo "Zeek scripts: parsed and formatted"

unit: .venv/.installed
	.venv/bin/python -m pytest -q -n 2 --dist loadgroup $(PYTEST_ARGS)

# FAULTS_SHARE=0.1 does a tenth of it; FAULTS_ONLY="kill -9" runs what begins so. Then each role on Kafka is killed 20 times.
faults: test-deps .venv/.installed ## Let a sensor undergo every fault, hundreds of times; prints the table of docs/reliability.md (an hour)
	.venv/bin/python -m tests.faults $(if $(FAULTS_ONLY),--only "$(FAULTS_ONLY)") $(if $(FAULTS_SHARE),--share $(FAULTS_SHARE))
	PACKETCLIP_SLOW=1 PACKETCLIP_KILLS=20 .venv/bin/python -m pytest -q -s -n 0 tests/kafka/test_roles.py -k kill_9

kafka: test-deps .venv/.installed ## Run the roles on a real Kafka, killed and stopped on the way (minutes)
	PACKETCLIP_SLOW=1 .venv/bin/python -m pytest -q -n 0 tests/kafka

hostile: test-deps .venv/.installed ## Show what odd and hostile input does to the sensor now, kind by kind; prints a table (minutes)
	.venv/bin/python -m tests.hostile

# atheris chooses inputs by the code that they reach; where it cannot be installed a plain mutator does.
FUZZ_INPUTS ?= 1000000
fuzz: .venv/.installed ## Feed FUZZ_INPUTS (a million) hostile inputs to each reader of bytes from outside (some hours)
	.venv/bin/python $(PIP) install 'atheris>=2.3' || echo "no atheris here: the plain mutator does it"
	@for target in $$(.venv/bin/python -m tests.fuzz list --engine plain | tr -d , | cut -d: -f2); do \
	  .venv/bin/python -m tests.fuzz $$target --inputs $(FUZZ_INPUTS) || exit 1; \
	done

# As root on Debian, installs what is missing; elsewhere says what is missing, and the tests that need it skip with the reason.
test-deps:
	@bash tests/install_deps.sh

# first, breadth, harden, servers, chatter, world and answers are trained on; unseen and world-unseen (tools never seen, other networks) and
# evade are tests.
lab: .venv/.installed ## Record labelled traffic in network namespaces (root, Debian; installs the tools of training/lab/packages.txt)
	xargs -a <(grep -v '^#' training/lab/packages.txt) apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends
	.venv/bin/python -m training.lab --profile first breadth --out lab
	.venv/bin/python -m training.lab --profile world world-unseen harden servers chatter answers unseen evade --out 'lab-{profile}' --jobs 4
	for folder in lab lab-harden lab-servers lab-chatter lab-world lab-answers lab-unseen lab-evade lab-world-unseen; do .venv/bin/python -m training.data.replay $$folder --out $$folder/logs; done
	.venv/bin/python -m training.lab.card lab lab-harden lab-servers lab-chatter lab-world lab-answers lab-unseen lab-evade lab-world-unseen --out runs

# CAPTURES=DIR adds captures by others whose MANIFEST.csv allows training or choosing; they go through zeek.
pairs: .venv/.installed ## Cut the lab's logs (and CAPTURES) into windows to train on (runs/pairs) and to test on (runs/judged)
	rm -rf runs/pairs runs/judged
	.venv/bin/python -m training.data.prepare --lab lab/logs --altered 100 --out runs/pairs --judged runs/judged \
	  --also harden=lab-harden/logs servers=lab-servers/logs talk=lab-chatter/logs world=lab-world/logs answers=lab-answers/logs \
	  --test world=lab-world/logs unseen=lab-unseen/logs evade=lab-evade/logs world-unseen=lab-world-unseen/logs \
	  --unreadable unreadable=lab-unseen/logs world-unreadable=lab-world-unseen/logs $(if $(CAPTURES),--captures $(CAPTURES))

# One thread sums in one order: the same weights on any number of cores. The third seed is shipped (training/DIARY.md, run 31); evidence
# and thresholds come from what each of three seeds held out of its training.
VERSION ?= 8
LOGS := lab/logs lab-harden/logs lab-servers/logs lab-chatter/logs lab-world/logs lab-answers/logs
TRAIN := env OMP_NUM_THREADS=1 .venv/bin/python -m training.fit.train --version $(VERSION)
OTHERS = $(if $(CAPTURES),--captures runs/captures --manifest $(CAPTURES)/MANIFEST.csv)
model: pairs ## Train on runs/pairs and put the bundle into packetclip_sensor/model/shipped
	printf '%s\n' 3 1 2 | xargs -P 2 -I{} $(TRAIN) --pairs runs/pairs/*.parquet --seed {} --out runs/seed-{} --text-cache runs/texts-{}.npz
	rm -rf runs/evidence
	for seed in 3 1 2; do .venv/bin/python -m training.evidence.collect --out runs/evidence --model runs/seed-$$seed --held-out --logs $(LOGS) $(OTHERS); done
	$(if $(CAPTURES),.venv/bin/python -m training.evidence.collect --out runs/evidence --model runs/seed-3 $(OTHERS) --use validate)
	.venv/bin/python -m training.evidence.fit --rows runs/evidence $(if $(CAPTURES),--manifest $(CAPTURES)/MANIFEST.csv) --write runs/seed-3
	cp runs/seed-3/* packetclip_sensor/model/shipped/

# Sources by others in folds: a bundle that knows all but those of a fold is tested on these. Attacks are in 1 to 4, and each fold has
# about a fifth of the benign captures.
FOLD1 := zeek-zeek
FOLD2 := Montimage-mmt-security andypitcher-IoT-Sentinel
FOLD3 := Jose-Serrano-PortScan-detector ntop-nDPI
FOLD4 := StopDDoS-packet-captures arkime-arkime odedshimon-BruteShark seladb-PcapPlusPlus the-tcpdump-group-tcpdump
folds: .venv/.installed ## Train four bundles, each on the lab and all but a quarter of the sources by others, for the evaluation
	$(foreach fold,1 2 3 4,.venv/bin/python -m training.fit.train --seed 3 --out runs/fold-$(fold) --version fold-$(fold) --text-cache runs/texts-3.npz \
	  --pairs $(filter-out $(foreach source,$(FOLD$(fold)),%-$(source).parquet %-$(source)-altered.parquet),$(wildcard runs/pairs/*.parquet)) && \
	  .venv/bin/python -m training.evidence.collect --out runs/evidence-$(fold) --model runs/fold-$(fold) --held-out --logs $(LOGS) $(OTHERS) && \
	  .venv/bin/python -m training.evidence.fit --rows runs/evidence-$(fold) --write runs/fold-$(fold) &&) true

evaluate: .venv/.installed ## Run the plan of training/evaluate/plan.yaml (about twelve hours of a core; goes on where it stopped) and write training/RESULTS.md
	.venv/bin/python -m training.evaluate run --plan training/evaluate/plan.yaml --store runs/evaluation --jobs 2
	.venv/bin/python -m training.evaluate report --store runs/evaluation

constraints: .venv/.installed ## Write requirements/ anew from .venv
	.venv/bin/python requirements/make_constraints.py --hashes

compose: ## Zeek on INTERFACE, the sensor, Elasticsearch and Kibana in containers, for a trial (docker compose v2)
	docker compose -f deploy/compose.yaml up --build

package: .venv/.installed ## Make dist/packetclip-VERSION.zip, the integration package for Kibana's upload
	.venv/bin/python -m mappings.integration.build

zkg: ## Make dist/zkg/packetclip, a git repository of the Zeek package alone, for `zkg install` and `zkg bundle`
	rm -rf dist/zkg && mkdir -p dist/zkg/packetclip
	git archive HEAD zeek_scripts tests/zeek zkg.meta LICENSE | tar -x -C dist/zkg/packetclip
	cd dist/zkg/packetclip && git init -q -b main && git add . && git -c user.name=packetclip -c user.email=packetclip@localhost \
	  commit -qm "The Zeek package of $$(git -C $(CURDIR) describe --always)"

golden: .venv/.installed ## Write the golden documents of tests/golden anew, where alerts change on purpose
	rm -f tests/golden/alerts.ndjson
	.venv/bin/packetclip replay tests/data --config tests/golden/sensor.yaml --out tests/golden/alerts.ndjson
	git diff --stat tests/golden

clean: ## Remove what the other commands made, but for lab/ and runs/
	rm -rf .venv .venv-demo demo/alerts.ndjson demo/report.html dist build .pytest_cache .mypy_cache .ruff_cache

# --force-reinstall for the project alone: its version stays the same while its files change.
.venv-demo/.installed: $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11")'
	test -x .venv-demo/bin/python || $(PYTHON) -m venv .venv-demo
	.venv-demo/bin/python $(PIP) install --constraint requirements/constraints.txt .
	.venv-demo/bin/python $(PIP) install --no-deps --force-reinstall .
	@touch $@

.venv/.installed: pyproject.toml requirements/constraints.txt requirements/constraints-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11")'
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) install -c requirements/constraints.txt -c requirements/constraints-dev.txt --editable '.[train,dev]'
	@touch $@
