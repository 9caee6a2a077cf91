"""Uses a model: `python -m spanbert_jax.predict --task=fill_mask --model=DIR "The [MASK] of a list"`."""

import json
import sys
from collections.abc import Iterable, Sequence

from absl import flags

from spanbert_jax import cli
from spanbert_jax.errors import UserError
from spanbert_jax.tasks.fill_mask import Candidate, Filled, fill_mask
from spanbert_jax.tasks.pretrained import load_pretrained

_TASK = flags.DEFINE_enum("task", "fill_mask", ["fill_mask"], "What to predict.")
_MODEL = flags.DEFINE_string("model", None, "A work folder, or a checkpoint in one.", required=True)
_JSON = flags.DEFINE_bool("json", False, "Print one JSON object per input.")


def main(argv: Sequence[str]) -> int:
    """Answers each argument, or each line of standard input where there is none; 2 where one had no answer."""
    model = load_pretrained(_MODEL.value)
    texts: Iterable[str] = argv[1:] or (line.strip() for line in sys.stdin if line.strip())
    failures = 0
    for number, text in enumerate(texts, start=1):
        try:
            answer = fill_mask(model, text)
        except UserError as error:
            failures += 1
            print(f"error: input {number}: {error}", file=sys.stderr)
            if _JSON.value:
                print(json.dumps({"text": text, "error": str(error)}, ensure_ascii=False), flush=True)
            continue
        print(to_json(text, answer) if _JSON.value else to_text(text, answer), flush=True)
    return 2 if failures else 0


def to_json(text: str, answer: Filled) -> str:
    """One line: the text, `blanks` with five candidates of each head, `spans` with joint fills.

    Positions count pieces, [CLS] being 0.
    """
    return json.dumps(
        {
            "text": text,
            "blanks": [
                {
                    "position": blank.position,
                    "mlm": [candidate._asdict() for candidate in blank.mlm],
                    "sbo": [candidate._asdict() for candidate in blank.sbo],
                }
                for blank in answer.blanks
            ],
            "spans": [
                {
                    "start": span.start,
                    "length": span.length,
                    "fills": [{"text": text, "log_probability": score} for text, score in span.fills],
                }
                for span in answer.spans
            ],
        },
        ensure_ascii=False,
    )


def to_text(text: str, answer: Filled) -> str:
    """The text and, below it, a line for each head of each blank and one for each span of several blanks."""

    def listed(candidates: Sequence[Candidate]) -> str:
        shown = "  ".join(f"{candidate.token} {candidate.probability:.3f}" for candidate in candidates)
        return shown or "(no boundary)"

    lines = [text]
    for number, blank in enumerate(answer.blanks, start=1):
        lines += [f"  blank {number}  mlm  {listed(blank.mlm)}", f"           sbo  {listed(blank.sbo)}"]
    for span in answer.spans:
        if span.length > 1:
            fills = "  |  ".join(f"{fill} ({score:.2f})" for fill, score in span.fills)
            lines.append(f"  span of {span.length}  joint  {fills}")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main)
