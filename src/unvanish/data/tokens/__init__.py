"""Text as numbers, a number for each symbol: characters, bytes, words or pieces of words."""

from unvanish.data.tokens.read import CUTS, Cut, Tokens, read_tokens
from unvanish.data.tokens.symbols import Bytes, Symbols, Words, symbols_of

__all__ = ["CUTS", "Bytes", "Cut", "Symbols", "Tokens", "Words", "read_tokens", "symbols_of"]
