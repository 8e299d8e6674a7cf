import subprocess
import sys

HEAVY = (
    "prefect",
    "mlflow",
    "sklearn",
    "openai",
    "matplotlib",
    "sqlalchemy",
    "numpy",
    "pandas",
    "pyspark",
    "torch",
    "rich",
)


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from flows.cli import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
        f"sys.stderr.write(','.join(name for name in {HEAVY!r} if name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "Commands:" in done.stdout
    assert done.stderr == ""


def test_no_command_is_heavy_before_it_runs() -> None:
    script = (
        "import sys\n"
        "from flows.cli import cli\n"
        "context = cli.make_context('uniroute', [], resilient_parsing=True)\n"
        "for name in cli.list_commands(context):\n    cli.get_command(context, name)\n"
        f"sys.stderr.write(','.join(name for name in {(*HEAVY, 'pydantic')!r} if name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""


def test_every_command_of_the_table_exists_and_has_help() -> None:
    from flows.cli import cli

    context = cli.make_context("uniroute", [], resilient_parsing=True)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None, name
        assert command.get_short_help_str(), name
