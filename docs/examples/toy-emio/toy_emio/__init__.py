"""Toy detector files for intake-emio: the card of the format. The reader is imported when a file turns up."""

from intake_emio.formats import Format, Writer

FORMAT = Format(
    "toy",
    "Toy detector",
    "toy_emio.toy",
    source="ToySource",
    extensions=(".toy",),
    magic=((0, b"TOY1"),),
    detection="first bytes TOY1",
    writers=(Writer((".toy",)),),
)
