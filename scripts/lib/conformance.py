"""Runs the cases of the conformance catalogue against the release binary, and keeps the documents.

Called by scripts/conformance.sh. How a case is written is said in conformance_kit.py; there is a
file of cases for each group of the catalogue, conformance_a.py and so on; what does not fit in it is
in conformance_a_*.py.
"""

import argparse
import concurrent.futures
import importlib
import os
import pathlib
import sys
import tempfile
import time
import traceback

sys.dont_write_bytecode = True
import conformance_pages as pages  # noqa: E402
from conformance_kit import CASES, CATALOGUE, Failed  # noqa: E402
from conformance_relay import ROOT, Bench, Trial  # noqa: E402

THREADS = 8


def main():
    parser = argparse.ArgumentParser(prog="scripts/conformance.sh")
    parser.add_argument("--only", help="these groups or cases, with commas: A or B28,C5")
    parser.add_argument("--smoke", action="store_true", help="without the slow cases")
    parser.add_argument("--write", action="store_true", help="write docs/conformance.md")
    parser.add_argument("--show", action="store_true", help="print the transcripts")
    options = parser.parse_args()
    for path in sorted(pathlib.Path(__file__).parent.glob("conformance_[a-p]*.py")):
        if path.stem.split("_")[1].upper() in CATALOGUE:
            importlib.import_module(path.stem)
    CASES.sort(key=lambda case: case.order)
    chosen = [case for case in enumerate(CASES) if is_chosen(case[1], options)]
    if not chosen:
        parser.error("no such case")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="merpati-conformance.") as folder:
        os.chmod(folder, 0o755)
        with Bench(os.environ["MERPATI"], pathlib.Path(folder)) as bench:
            with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
                results = list(pool.map(lambda numbered: run(bench, *numbered), chosen))
    failures = [result for result in results if result.failure]
    for result in results:
        if options.show or result.failure:
            print(f"\n{result.case.id}: {result.case.rule}\n" + "\n".join(result.transcript))
            print(f"=> {result.failure or 'passed'}", flush=True)
    slowest = sorted(results, key=lambda result: -result.seconds)[:5]
    print("conformance: slowest: " + ", ".join(f"{one.case.id} {one.seconds:.1f} s"
                                               for one in slowest))
    print(f"conformance: {len(results)} cases in {time.monotonic() - began:.0f} s")
    stale = 0
    if not failures:
        written = pages.write if options.write else pages.compare
        stale = written(ROOT / "docs", results)
    print(f"conformance: {len(results) - len(failures)} passed, {len(failures)} failed")
    return 1 if failures or stale else 0


def is_chosen(case, options):
    wanted = options.only.split(",") if options.only else None
    if wanted and case.group not in wanted and case.id not in wanted:
        return False
    return not (options.smoke and case.slow)


def run(bench, number, case):
    began = time.monotonic()
    with Trial(bench, number) as trial:
        try:
            case.run(trial)
            failure = None
        except Failed as why:
            failure = f"FAILED: {why}"
        except Exception:
            failure = "FAILED: " + traceback.format_exc(limit=-4)
    transcript = pages.normal(trial.lines, trial.hidden)
    return pages.Result(case, transcript, failure, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
