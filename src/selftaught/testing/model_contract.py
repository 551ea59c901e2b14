"""What every language model must do, as a pytest class that a model's own tests subclass."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from selftaught.errors import ModelError
from selftaught.language_model import Answer, LanguageModel, Request

_THREADS = 8


class LanguageModelContract:
    """Subclass it, name the subclass Test..., and give it a fixture `model`.

    A fixture `broken_model`, a model that cannot answer anything, adds the cases on errors.

    Attributes:
        request_text: a message that the model can answer.
        repeats_itself: set it for a model that gives equal answers to equal arguments.
    """

    request_text = "Write a program.\n\n```python\ndef algorithm(x):\n    return x + 1\n```\n"
    repeats_itself = False

    @pytest.fixture
    def broken_model(self) -> LanguageModel:
        """A model that cannot answer anything; skips the cases on errors unless overridden."""
        pytest.skip("no broken_model fixture")

    def expected(self, request: Request, seed: int, occurrence: int) -> list[str] | None:
        """Return the texts that must come back, in order, where they are known beforehand."""
        return None

    def ask(self, model: LanguageModel, n: int, *, number: int = 0) -> Answer:
        """Ask for n responses; another `number` makes another content and another key."""
        request = Request(
            expertise="You are an expert.", message=f"{self.request_text}\n{number}", n_responses=n
        )
        answer = model.respond(request, seed=3, occurrence=0, key=f"contract|{number}|{n}")
        expected = self.expected(request, 3, 0)
        if expected is not None:
            assert list(answer.texts) == expected, "the texts are others or in another order"
        return answer

    def test_it_satisfies_the_protocol(self, model: LanguageModel) -> None:
        """It has a name, says whether it is a language model, and responds."""
        assert isinstance(model, LanguageModel)
        assert isinstance(model.name, str)
        assert model.name.strip(), "the name is empty"
        assert isinstance(model.is_language_model, bool)

    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_it_gives_as_many_texts_as_asked_for(self, model: LanguageModel, n: int) -> None:
        """n responses are n strings, no more and no fewer, and n again the second time."""
        for number in range(2):
            answer = self.ask(model, n, number=number)
            assert isinstance(answer.texts, tuple)
            assert len(answer.texts) == n, f"{len(answer.texts)} texts for n = {n}"
            assert all(isinstance(text, str) for text in answer.texts)

    def test_a_text_can_be_stored_as_utf8(self, model: LanguageModel) -> None:
        """A text holds no lone surrogates, which no store takes."""
        for text in self.ask(model, 2).texts:
            assert text.encode("utf-8").decode("utf-8") == text

    def test_usage_is_never_negative(self, model: LanguageModel) -> None:
        """Tokens are whole numbers from 0; money is unknown or at least 0."""
        usage = self.ask(model, 2).usage
        assert isinstance(usage.prompt_tokens, int)
        assert isinstance(usage.completion_tokens, int)
        assert usage.prompt_tokens >= 0
        assert usage.completion_tokens >= 0
        assert usage.dollars is None or usage.dollars >= 0

    def test_truncated_indices_point_at_texts(self, model: LanguageModel) -> None:
        """Truncated responses are named by ascending indices into the texts."""
        answer = self.ask(model, 3)
        assert list(answer.truncated) == sorted(set(answer.truncated))
        assert all(0 <= index < len(answer.texts) for index in answer.truncated)

    def test_it_answers_many_threads_at_once(self, model: LanguageModel) -> None:
        """Each of many concurrent callers gets the answer to what it asked itself."""
        with ThreadPoolExecutor(_THREADS) as threads:
            answers = list(
                threads.map(lambda number: self.ask(model, 3, number=number), range(2 * _THREADS))
            )
        assert [len(answer.texts) for answer in answers] == [3] * (2 * _THREADS)
        if self.repeats_itself:
            again = [self.ask(model, 3, number=number).texts for number in range(2 * _THREADS)]
            assert [answer.texts for answer in answers] == again, "threads change the answers"

    def test_it_repeats_itself_if_it_says_so(self, model: LanguageModel) -> None:
        """Equal arguments bring equal answers, whatever was asked in between."""
        if not self.repeats_itself:
            pytest.skip("it does not claim to repeat itself")
        first = self.ask(model, 3)
        self.ask(model, 2, number=1)
        assert self.ask(model, 3) == first

    @pytest.mark.parametrize("n", [1, 3])
    def test_a_failure_is_a_model_error(self, broken_model: LanguageModel, n: int) -> None:
        """Where no answer is to be had, it raises ModelError with a message, and nothing else."""
        with pytest.raises(ModelError) as failure:
            self.ask(broken_model, n)
        assert str(failure.value).strip(), "the error says nothing"
