"""The reader of API uses itself: made-up bindings, so nothing is fetched and nothing is compiled."""

from __future__ import annotations

import textwrap

from tensorrt_api_use import MODULE, Reading, api_uses
from tensorrt_stubs import Surface

OLD = Surface(
    names=frozenset({"volume"}),
    classes={
        "Builder": {"create_config": "Config"},
        "Config": {"set_flag": "", "limit": ""},
        "Flag": {"FP16": ""},
    },
    arguments={"Builder": (0, 1), "Config.set_flag": (1, 1), "volume": (1, 2)},
)
NEW = Surface(
    names=frozenset({"volume"}),
    classes={
        "Builder": {"create_config": "Config"},
        "Config": {"set_flag": "", "monitor": ""},
        "Flag": {"TF32": ""},
        "Monitor": {},
    },
)
VARIABLES = {"trt": MODULE, "builder": "Builder", "config": "Config"}


def read(code: str, surface: Surface = OLD) -> Reading:
    return api_uses({"code.py": textwrap.dedent(code)}, surface, VARIABLES)


def test_a_wrong_name_of_the_module_a_class_or_an_object_is_found():
    reading = read("""
        def build(trt, config):
            trt.volume((1,)), trt.volum((1,))
            config.set_flag(trt.Flag.FP16)
            config.set_flag(trt.Flag.FP17)
            config.set_flags(0)
    """)
    assert reading.missing == [
        "code.py:3: the module.volum",
        "code.py:5: Flag.FP17",
        "code.py:6: Config.set_flags",
    ]


def test_a_call_with_the_wrong_number_of_arguments_is_found():
    reading = read("""
        def build(trt, config, *rest, **more):
            trt.Builder(), trt.Builder(1), trt.volume(1, times=2), trt.volume(*rest), config.set_flag(**more)
            config.set_flag()
            trt.volume(1, 2, 3)
    """)
    assert reading.missing == [
        "code.py:4: Config.set_flag() with 0 arguments instead of 1",
        "code.py:5: the module.volume() with 3 arguments instead of 1 to 2",
    ]


def test_types_follow_calls_and_assignments_whatever_the_name():
    reading = read("""
        def build(trt):
            maker = trt.Builder()
            made = maker.create_config()
            made.nothing
            trt.Builder().create_config().nothing
    """)
    assert reading.missing == ["code.py:5: Config.nothing", "code.py:6: Config.nothing"]


def test_attributes_of_self_have_their_type_from_their_name():
    reading = read("""
        class Runner:
            def __init__(self, trt):
                self._builder = trt.Builder()

            def run(self):
                self._builder.nothing
    """)
    assert reading.missing == ["code.py:7: Builder.nothing"]


def test_types_follow_returns_and_lists():
    reading = read("""
        def build(trt):
            made = _make(trt, True)
            made.nothing
            several = [trt.Builder().create_config() for _ in range(3)]
            for entry in several:
                entry.nothing
            return [entry.nothing for entry in several], several[0].nothing

        def _make(trt, wanted):
            if not wanted:
                return None
            other = trt.Builder()
            return other.create_config()
    """)
    assert reading.missing == [f"code.py:{line}: Config.nothing" for line in (4, 7, 8)]


def test_an_object_of_ours_may_carry_a_name_of_the_bindings():
    reading = read("""
        def build(trt):
            config = _options()
            config.of_ours
            config = Options()
            config.of_ours

        def _options() -> Options:
            return Options()

        class Options: ...
    """)
    assert reading.missing == []


def test_methods_that_the_bindings_call_must_carry_their_names():
    code = """
        def make(trt):
            class Mine(trt.Builder):
                def create_config(self): ...
                def create_configuration(self): ...
                def _own(self): ...
    """
    assert read(code).missing == ["code.py:5: Builder.create_configuration"]


GUARDS = [
    """
    def build(trt, config):
        if hasattr(trt.Flag, "FP16"):
            config.set_flag(trt.Flag.FP16)
            config.limit
    """,
    """
    def build(trt, config):
        if not hasattr(trt.Flag, "FP16"):
            return
        config.set_flag(trt.Flag.FP16)
        config.limit
    """,
    """
    def build(trt, config):
        old = hasattr(trt.Flag, "FP16")
        value = config.limit if old else config.monitor
    """,
    """
    def build(trt, config):
        return hasattr(trt.Flag, "FP16") and config.limit
    """,
    """
    def build(trt, config):
        if has_flags(trt):
            _set(trt, config)

    def has_flags(trt):
        "Old."
        return hasattr(trt.Flag, "FP16")

    def _set(trt, config):
        config.set_flag(trt.Flag.FP16)
        config.limit
    """,
    """
    def build(trt, config):
        flag = getattr(trt.Flag, "FP16", None)
        if flag is None:
            config.monitor
        else:
            config.limit
    """,
    """
    def build(trt, config):
        if hasattr(trt, "Monitor"):
            class Progress(trt.Monitor):
                pass
            config.monitor = Progress()
        else:
            config.limit = 1
    """,
]


def test_code_behind_a_guard_is_checked_in_the_versions_that_run_it_only():
    for code in GUARDS:
        assert read(code, OLD).missing == [], code
        assert read(code, NEW).missing == [], code
        wrong = code.replace("config.limit", "config.limits")
        assert [line.split(": ")[1] for line in read(wrong, OLD).missing] == ["Config.limits"], code
        assert read(wrong, NEW).missing == [], code


def test_the_same_code_without_its_guard_fails_in_the_version_without_the_name():
    code = """
        def build(trt, config):
            config.set_flag(trt.Flag.FP16)
    """
    assert read(code, OLD).missing == []
    assert read(code, NEW).missing == ["code.py:3: Flag.FP16"]


def test_a_branch_that_leaves_hides_what_follows_it_in_that_version():
    code = """
        def build(trt, config):
            if hasattr(trt, "Monitor"):
                return config.monitor
            return config.limit
    """
    assert read(code, OLD).missing == []
    assert read(code, NEW).missing == []


def test_what_no_live_code_names_is_told():
    reading = read("""
        def build(trt):
            if not hasattr(trt, "volume"):
                _other()

        def _other():
            pass
    """)
    assert reading.unread == {"code.py:_other"}
