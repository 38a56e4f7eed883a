"""A pipeline that asks for a word in a condition; kfp reads no postponed annotations."""

from kfp import dsl


@dsl.component(base_image="any", install_kfp_package=False)  # type: ignore[untyped-decorator]
def word(say: str) -> str:
    """Stands for the component, whose output has the same shape."""
    return say


@dsl.component(base_image="any", install_kfp_package=False)  # type: ignore[untyped-decorator]
def note(file: str, text: str) -> None:
    with open(file, "a") as out:
        out.write(text)


@dsl.pipeline(name="asks")  # type: ignore[untyped-decorator]
def asks(say: str, file: str) -> None:
    said = word(say=say)
    with dsl.If(said.output == "promoted"):
        note(file=file, text="yes")
    with dsl.Else():
        note(file=file, text="no")
