"""What was meant by an option or a command that does not exist: the near one by spelling, or by meaning.

Other programs and libraries have words of their own for what an option or a command here is called.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

# What others say for an option; a word in two lines is ambiguous, and both are told.
OPTIONS = {
    "lr": "learning-rate rate eta step-size base-lr lr-rate",
    "lr-find": "find-lr auto-lr lr-finder",
    "layers": "layers-count num-layers n-layers nlayers depth layer-count",
    "hidden": "units hidden-size hidden-dim hidden-units num-hidden neurons width nhid num-units size dim",
    "batch-size": "batch bs bsz bsize minibatch minibatch-size size",
    "length": "seq-len seq-length sequence-length bptt window window-size context context-length timesteps steps "
    "max-tokens max-new-tokens num-tokens tokens",
    "windows": "window backtests folds",
    "horizon": "prediction-length forecast-horizon steps-ahead ahead h",
    "epochs": "num-epochs n-epochs max-epochs epoch iterations max-iter steps",
    "time-limit": "max-time minutes timeout",
    "out": "output output-dir output-file out-dir save save-dir save-to dest destination file path folder",
    "resume": "continue checkpoint ckpt restart from-checkpoint",
    "weight-decay": "wd l2 decay",
    "schedule": "scheduler lr-schedule lr-scheduler",
    "warm-up": "warmup warmup-steps num-warmup-steps",
    "patience": "early-stopping early-stop",
    "clip": "clip-norm grad-clip gradient-clip max-grad-norm max-norm clip-value clip-grad clipnorm clipvalue",
    "optimizer": "optimiser optim solver",
    "seed": "random-seed random-state",
    "cell": "rnn rnn-type cell-type model model-type type unit",
    "as": "kind format data-type tokenizer level type",
    "to": "format target as backend",
    "vocabulary": "vocab vocab-size max-features",
    "target": "label labels y target-column column columns",
    "group": "id id-column series series-id item-id",
    "time": "date timestamp time-column datetime ds",
    "known": "future covariates exogenous columns",
    "ignore": "drop exclude skip",
    "valid": "val validation validation-split val-split val-size test-size",
    "valid-every": "eval-every eval-steps val-every val-interval",
    "accumulate": "gradient-accumulation grad-accum accumulate-grad-batches gradient-accumulation-steps",
    "device": "gpu cuda accelerator",
    "devices": "gpu gpus num-gpus num-workers workers nproc",
    "precision": "dtype amp fp16 bf16",
    "logger": "log log-to tensorboard wandb report-to",
    "config": "settings yaml config-file",
    "init": "initialiser initializer initialization initialisation",
    "dropout": "drop drop-rate dropout-rate",
    "bidirectional": "bi birnn bilstm",
    "tied": "tie-weights tied-weights weight-tying",
    "proj": "proj-size projection",
    "loss": "criterion objective likelihood",
    "prompt": "text prefix start begin",
    "temperature": "temp",
    "need": "lag needed max-lag",
    "json": "as-json output-format format",
    "open": "browser show view",
    "compile": "bench benchmark",
    "per-token": "verbose surprise",
    "streaming": "stream",
    "source": "data input dataset train train-file file text csv",
    "run": "model checkpoint ckpt resume",
}
COMMANDS = {
    "train": "fit learn run resume start",
    "evaluate": "test eval score validate measure",
    "predict": "forecast infer inference classify apply answer",
    "generate": "sample write complete text",
    "export": "convert onnx save deploy",
    "diagnose": "check analyse analyze inspect doctor debug profile",
    "report": "show view page plot open inspect",
    "compare": "diff versus vs",
    "cells": "list catalogue catalog models show",
    "cite": "citation bibtex bib reference paper",
    "env": "info system machine doctor",
    "bench": "benchmark time speed profile perf timeit",
    "completion": "completions autocomplete install-completion",
    "--help": "help",
    "--version": "version",
}


def meant(word: str, known: Mapping[str, str], synonyms: Mapping[str, str]) -> str:
    """Ask whether a known name was meant by a word; empty where none is near.

    What is spelt the same but for - and _ comes first, then what means the same, then what is spelt much the same.

    Args:
        word: what was given.
        known: how each name is shown.
        synonyms: other words for each name, between spaces.

    >>> known = {"lr": "--lr", "length": "--length", "hidden": "--hidden", "batch-size": "--batch-size"}
    >>> meant("--learning-rate", known, OPTIONS), meant("--batchsize", known, OPTIONS)
    ('did you mean --lr?', 'did you mean --batch-size?')
    >>> meant("--size", known, OPTIONS), meant("--zzz", known, OPTIONS)
    ('did you mean --hidden or --batch-size?', '')
    """
    word = word.strip("-").replace("_", "-").lower()
    found = [name for name in known if _bare(name) == _bare(word)] or _same_meaning(word, known, synonyms)
    found = found or difflib.get_close_matches(word, known, n=2, cutoff=0.6)
    if not found:
        words = [one for told in synonyms.values() for one in told.split()]
        for near in difflib.get_close_matches(word, words, n=1, cutoff=0.8):
            found = _same_meaning(near, known, synonyms)
    return f"did you mean {' or '.join(known[name] for name in found[:2])}?" if found else ""


def _same_meaning(word: str, known: Mapping[str, str], synonyms: Mapping[str, str]) -> list[str]:
    bare = _bare(word)
    return [name for name, words in synonyms.items() if name in known and bare in map(_bare, words.split())]


def _bare(name: str) -> str:
    return name.replace("-", "").replace("_", "")
