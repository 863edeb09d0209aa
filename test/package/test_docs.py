"""README and docs against the tree: links, files, commands. What can run here runs as it is written."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from pages import LANGUAGES, NEEDS, RUNNABLE, Block, anchors, blocks, blocks_of, links, page_files, prose

from hrda_core.inference import Bundle
from hrda_ros.settings.parameters import PARAMETERS
from hrda_training.__main__ import VERBS, main

REPOSITORY = Path(__file__).resolve().parents[2]
BLOCKS = blocks_of(REPOSITORY)
COMMANDS = [(block.place, command) for block in BLOCKS for command in block.commands()]
RUN = sorted({block.page for block in BLOCKS if block.runs})
TUTORIAL = "docs/recordings/adapt_on_your_bags.md"
INDEX = REPOSITORY / "docs" / "README.md"
DOCS = [path for path in page_files(REPOSITORY) if path.is_relative_to(REPOSITORY / "docs") and path != INDEX]
PARAMETER_NAMES = {spec.name for spec in PARAMETERS}
NAMED_FILE = re.compile(
    r"`((?:hrda_core|hrda_ros|training|launch|config|demo|benchmarks|test|tools|models|packs|docs)/[\w./-]+\.\w+)"
)


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("page", page_files(REPOSITORY), ids=name_of)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", page_files(REPOSITORY), ids=name_of)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = set(NAMED_FILE.findall(page.read_text(encoding="utf-8")))
    made = {path for path in named if "NAME" in path or path.startswith("models/")}
    assert not sorted(path for path in named - made if not (REPOSITORY / path).exists())


def test_the_index_links_to_every_page() -> None:
    linked = {(INDEX.parent / link.partition("#")[0]).resolve() for link in links(INDEX)}
    assert not [name_of(page) for page in DOCS if page not in linked]


def test_the_glossary_has_fifteen_words_in_whole_sentences() -> None:
    rows = re.findall(r"^\| ([\w ]+) \| (.*) \|$", INDEX.read_text(encoding="utf-8").split("## Words")[1], re.MULTILINE)
    words = [(word, meaning) for word, meaning in rows if word != "word"]
    assert len(words) == 15
    assert all(meaning.endswith(".") for _, meaning in words)


@pytest.mark.parametrize("page", DOCS, ids=name_of)
def test_the_first_command_of_a_page_is_within_ten_lines(page: Path) -> None:
    first = next(block for block in blocks(page, page.name) if block.language in RUNNABLE)
    assert first.line < 10


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_a_block_has_a_language_and_says_whether_it_runs(block: Block) -> None:
    assert block.language in LANGUAGES
    assert set(block.marks) <= ({"needs", "shortened"} if block.language in RUNNABLE else set())
    assert block.marks.get("needs", "ros") in NEEDS


class AcceptedError(Exception):
    """The parser took a command; nothing is done about it."""


@pytest.mark.parametrize(
    ("place", "command"),
    [pytest.param(place, command, id=f"{place} {command[:60]}") for place, command in COMMANDS if "hrda " in command],
)
def test_the_parser_of_its_verb_takes_every_hrda_command(
    place: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonargparse = pytest.importorskip("jsonargparse")

    def stopping(parse: Callable[..., object]) -> Callable[..., None]:
        def parse_and_stop(self: object, *arguments: object, **options: object) -> None:
            parse(self, *arguments, **options)
            raise AcceptedError

        return parse_and_stop

    # `hrda doctor` has the parser of the standard library, since it says which packages are missing.
    for parser in (argparse.ArgumentParser, jsonargparse.ArgumentParser):
        monkeypatch.setattr(parser, "parse_args", stopping(parser.parse_args))
    monkeypatch.chdir(REPOSITORY)
    words = shlex.split(command)
    with pytest.raises(AcceptedError):
        print(place, "exit code", main(words[words.index("hrda") + 1 :]))


def test_every_option_of_a_verb_in_the_text_exists(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jsonargparse")
    named: dict[str, set[str]] = {}
    for page in page_files(REPOSITORY):
        for verb, rest in re.findall(r"`hrda ([\w-]+(?: info)?)([^`]*)`", prose(page)):
            named.setdefault(verb, set()).update(re.findall(r"(?<!\S)--[\w.-]+", rest))
    unknown = set()
    for verb, options in named.items():
        if verb.split()[0] not in VERBS:
            unknown.add(verb)
        elif options:
            with pytest.raises(SystemExit):
                main([*verb.split(), "--help"])
            # Commands take a dash for an underscore.
            text = capsys.readouterr().out.replace("_", "-")
            unknown |= {
                f"{verb} {option}" for option in options if not re.search(rf"{option.replace('_', '-')}\b", text)
            }
    assert not unknown


def test_other_commands_name_things_that_there_are() -> None:
    targets = re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    launch = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "launch").glob("*.launch.py"))
    wrong = []
    for place, command in COMMANDS:
        words = shlex.split(command)
        scripts = [word for word in words[:2] if word.endswith(".py")]
        arguments = re.findall(r"(?<!\S)(\w+):=", command) if "ros2 launch" in command else []
        parameter = set(re.findall(r"^ros2 param set /segment_node (\w+)", command))
        if (
            any(not (REPOSITORY / script).is_file() for script in scripts)
            or any(f'"{argument}"' not in launch for argument in arguments)
            or not parameter <= PARAMETER_NAMES
            or (words[0] == "make" and words[1] not in targets)
        ):
            wrong.append(f"{place}: {command}")
    assert not wrong


def test_most_blocks_of_commands_run_and_the_others_say_why_not(record_property: Callable[[str, object], None]) -> None:
    reasons = Counter(block.marks["needs"] for block in BLOCKS if "needs" in block.marks)
    running = sum(block.runs for block in BLOCKS)
    lines = [f"{running} run as written, {reasons.total()} do not:"]
    lines += [f"  {count:2} need {NEEDS[needs]}" for needs, count in sorted(reasons.items())]
    record_property("blocks of commands in the pages", "\n".join(lines))
    assert running >= 20


@pytest.mark.heavy
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run_as_they_are_written(page: str, tmp_path: Path) -> None:
    for package in ("mcap", "onnx", "rclpy", "rosbags", "torch"):
        pytest.importorskip(package)
    from stand_ins import write_clone

    here = [block for block in BLOCKS if block.page == page and block.runs]
    script = "".join(f"echo '== {block.place}'\n{block.script()}" for block in here)
    clone = write_clone(tmp_path / "clone", REPOSITORY)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=clone,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{clone / '.venv' / 'bin'}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    if page == TUTORIAL:
        check_the_tutorial(clone / "runs" / "tutorial")


def check_the_tutorial(made: Path) -> None:
    """It ends with an adopted model, and the node shows it."""
    adopted = Bundle.open(made / "after")
    assert adopted.manifest["provenance"]["adaptation"]["choice"] == "instant"
    for name in ("after/report.html", "dusk.html", "masks/metadata.yaml", "node/contact_sheet.png"):
        assert (made / name).is_file()
