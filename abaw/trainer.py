"""Lightning's Trainer, with the commands that are abaw's own."""

import lightning.pytorch as pl


class ExpressionTrainer(pl.Trainer):
    """A Trainer whose further methods are commands too: LightningCLI makes a subcommand of each.

    They take ``model`` and ``datamodule`` as ``fit`` and ``predict`` do, and run on any strategy.
    """
