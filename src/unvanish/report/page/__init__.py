"""What the pages of a run and of a diagnosis share: markup, blocks, wording, axes, curves, the document."""
