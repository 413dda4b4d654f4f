"""What a network is asked, one file for each kind of question, and the data that ask it."""

from unvanish.train.questions.question import Material, Question, Sums
from unvanish.train.questions.reading import kept_question, read_material

__all__ = ["Material", "Question", "Sums", "kept_question", "read_material"]
