"""The lines of our crates that a fuzz target ran, of all in the files that it entered.

usage: fuzz_lines.py TARGET EXPORT        what `llvm-cov export --summary-only` printed
"""

import json
import pathlib
import sys


def main():
    target, export = sys.argv[1:]
    crates = pathlib.Path(__file__).resolve().parents[2] / "crates"
    files = json.loads(pathlib.Path(export).read_text())["data"][0]["files"]
    lines = [one["summary"]["lines"] for one in files
             if pathlib.Path(one["filename"]).resolve().is_relative_to(crates)]
    entered = [one for one in lines if one["covered"]]
    covered = sum(one["covered"] for one in entered)
    count = sum(one["count"] for one in entered)
    print(f"{target:<15} {covered:>10} lines run of {count} in {len(entered)} files "
          f"({100 * covered // max(count, 1)} %)")


if __name__ == "__main__":
    main()
