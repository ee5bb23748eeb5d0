"""SQL conditions on the columns of one row: validation and evaluation.

A condition is parsed by sqlglot, each node is checked against an allowlist, and only SQL generated from the allowed
nodes is passed to polars. So a condition can access only the columns of its row: no aggregates or windows (which would
be over a block of rows), subqueries or table functions (for which polars opens files while parsing).
See docs/decisions/0011-conditions.md.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from latentscale.errors import ConfigError

if TYPE_CHECKING:
    import polars as pl

MAX_CHARACTERS = 1_000_000
MAX_NODES = 50_000
MAX_DEPTH = 100
"""Of one comparison, and of alternating AND and OR; a chain of one of them has any length up to ``MAX_NODES``."""
SHOWN = 200
"""Maximum characters of a condition in a message."""
# Up to this many text columns are tried as text or numbers in all combinations; more are all treated alike.
_COMBINED = 7
_JOINED = 8
_EXACT = 2**53
_NODES = frozenset(
    "And Or Not Paren EQ NEQ GT GTE LT LTE NullSafeEQ NullSafeNEQ Is In Between Like ILike RegexpLike RegexpILike "  # noqa: SIM905
    "Add Sub Mul Div Mod Neg DPipe Case If Cast TryCast Extract Column Identifier Literal Boolean Null Anonymous "
    "DataType DataTypeParam Var Escape Interval".split()
)
_FUNCTIONS = frozenset(
    "ABS BIT_LENGTH CEIL CEILING CHAR_LENGTH CHARACTER_LENGTH COALESCE CONCAT CONCAT_WS DATE DATE_PART DIV ENDS_WITH "  # noqa: SIM905
    "EXP FLOOR GREATEST IF IFNULL INITCAP LEAST LEFT LENGTH LN LOG LOG10 LOG1P LOG2 LOWER LTRIM MOD NORMALIZE NULLIF "
    "OCTET_LENGTH POW POWER REGEXP_LIKE REPLACE REVERSE RIGHT ROUND RTRIM SIGN SQRT STARTS_WITH STRFTIME STRPOS "
    "STRPTIME SUBSTR TIMESTAMP TRIM UPPER ARRAY_CONTAINS ARRAY_LENGTH".split()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A validated condition on the columns of one row.

    Attributes
    ----------
    text : str
        The original SQL.
    columns : tuple of str
        The columns in it.
    expression : polars.Expr
    wide : bool
        Whether it contains integers that float64 cannot represent.
    """

    text: str
    columns: tuple[str, ...]
    expression: pl.Expr
    wide: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of a condition for some rows.

    Attributes
    ----------
    holds : bool ndarray, shape (rows,)
    unknown : bool ndarray, shape (rows,)
        Where it cannot be evaluated although no column is null or blank, such as for text that is not a number.
    """

    holds: NDArray[np.bool_]
    unknown: NDArray[np.bool_]


@lru_cache(maxsize=64)
def parse_condition(text: str, *, where: str = "corpus.where") -> Condition:
    """Parse and validate a SQL condition on the columns of a row.

    No file is opened and no function is called.

    Raises
    ------
    ConfigError
        If it cannot be parsed, is too long, or holds an aggregate, a window, a subquery, a table or a function that
        is not allowed.
    """
    if len(text) > MAX_CHARACTERS:
        raise _refusal(text, f"it has {len(text):,} characters, {MAX_CHARACTERS:,} are allowed", where)
    tree = _parsed(text, where)
    columns, wide = _checked(tree, text, where)
    try:
        expression = _compiled(tree, 0)
    except RecursionError:
        raise _refusal(text, f"it is nested more than {MAX_DEPTH} deep", where) from None
    except Exception as error:  # what polars raises for SQL is of several types
        raise _refusal(text, _first_line(error), where) from error
    return Condition(text=text, columns=columns, expression=expression, wide=wide)


def _parsed(text: str, where: str) -> Any:
    from sqlglot.errors import SqlglotError

    try:
        found = [one for one in _dialect().parse(text) if one is not None]
    except RecursionError:
        raise _refusal(text, f"it is nested more than {MAX_DEPTH} deep", where) from None
    except SqlglotError as error:
        raise _refusal(text, _place(error), where) from None
    if len(found) != 1:
        raise _refusal(text, "it is empty" if not found else "it is more than one statement", where)
    return found[0]


@lru_cache(maxsize=1)
def _dialect() -> Any:
    """Return the SQL dialect of polars, in which functions are parsed generically and never rewritten."""
    from sqlglot import exp
    from sqlglot.dialects.postgres import Postgres

    class RowConditions(Postgres):
        class Parser(Postgres.Parser):
            FUNCTIONS = {}  # noqa: RUF012 - the base class declares it so
            FUNCTION_PARSERS = _only(Postgres.Parser.FUNCTION_PARSERS, "CAST", "TRY_CAST", "EXTRACT")
            NO_PAREN_FUNCTIONS = {}  # noqa: RUF012
            NO_PAREN_FUNCTION_PARSERS = _only(Postgres.Parser.NO_PAREN_FUNCTION_PARSERS, "CASE")

        class Generator(Postgres.Generator):
            TRANSFORMS = {  # noqa: RUF012
                **Postgres.Generator.TRANSFORMS,
                exp.TryCast: lambda self, one: f"TRY_CAST({self.sql(one, 'this')} AS {self.sql(one, 'to')})",
            }

    return RowConditions()


def _only(parsers: Any, *names: str) -> Any:
    return {name: parser for name, parser in parsers.items() if name in names}


def _checked(tree: Any, text: str, where: str) -> tuple[tuple[str, ...], bool]:
    """Validate the nodes; returns the columns, and whether there are integers that float64 cannot represent."""
    from sqlglot import exp

    columns: dict[str, None] = {}
    wide = False
    for number, node in enumerate(tree.walk()):
        if number >= MAX_NODES:
            raise _refusal(text, f"it has more than {MAX_NODES:,} parts", where)
        kind = type(node).__name__
        if isinstance(node, exp.Anonymous):
            name = str(node.this)
            if name.upper() not in _FUNCTIONS:
                raise _refusal(text, f"the function {name[:SHOWN]} is not one of a single row", where)
        elif isinstance(node, exp.In) and (node.args.get("query") or node.args.get("field") or node.args.get("unnest")):
            raise _refusal(text, "IN takes a list of values, not a subquery or a table", where)
        elif kind not in _NODES:
            raise _refusal(text, f"{_WORDS.get(kind, kind.upper())} is not allowed", where)
        elif isinstance(node, exp.Column):
            if not all(isinstance(part, exp.Identifier) for part in node.parts):
                raise _refusal(text, "* is not allowed", where)
            columns[node.parts[0].name] = None
        elif isinstance(node, exp.Literal) and not node.is_string:
            wide = wide or (str(node.this).isdecimal() and int(str(node.this)[:40]) > _EXACT)
    return tuple(columns), wide


_WORDS = {
    "Select": "a subquery (SELECT)",
    "Subquery": "a subquery (SELECT)",
    "Exists": "a subquery (EXISTS)",
    "Table": "a table",
    "Window": "a window (OVER)",
    "Star": "*",
    "Filter": "an aggregate (FILTER)",
}


def _compiled(tree: Any, depth: int) -> pl.Expr:
    """Compile to a polars expression, with chains of AND and OR of any length as balanced trees."""
    from sqlglot import exp

    if depth > MAX_DEPTH:
        raise RecursionError
    node: Any = tree
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.And | exp.Or):
        kind: Any = type(node)
        terms: list[Any] = []
        waiting = [node]
        while waiting:
            one = waiting.pop()
            if isinstance(one, kind):
                waiting += [one.expression, one.this]
            else:
                terms.append(one)
        return _balanced([_compiled(one, depth + 1) for one in _merge_comparisons(terms, kind)], both=kind is exp.And)
    if isinstance(node, exp.Not) and isinstance(node.this, exp.Paren | exp.And | exp.Or | exp.Not):
        return ~_compiled(node.this, depth + 1)
    return _piece(node)


def _merge_comparisons(terms: list[Any], kind: Any) -> list[Any]:
    """Merge ``a = 1 OR a = 2 OR …`` into ``a IN (1, 2, …)``, and ``a <> 1 AND …`` into ``NOT IN``."""
    from sqlglot import exp

    compares = exp.EQ if kind is exp.Or else exp.NEQ
    alike: dict[tuple[str, bool], list[Any]] = {}
    rest: list[Any] = []
    for one in terms:
        if type(one) is compares and isinstance(one.this, exp.Column) and isinstance(one.expression, exp.Literal):
            alike.setdefault((one.this.sql(), one.expression.is_string), []).append(one)
        else:
            rest.append(one)
    for found in alike.values():
        if len(found) < _JOINED:
            rest += found
            continue
        listed = exp.In(this=found[0].this.copy(), expressions=[one.expression.copy() for one in found])
        rest.append(listed if kind is exp.Or else exp.Not(this=listed))
    return rest


def _balanced(terms: list[pl.Expr], *, both: bool) -> pl.Expr:
    while len(terms) > 1:
        paired = [a & b if both else a | b for a, b in zip(terms[::2], terms[1::2], strict=False)]
        terms = paired + terms[len(terms) - len(terms) % 2 :]
    return terms[0]


def _piece(node: Any) -> pl.Expr:
    """One comparison, from its own text: what polars parses is what was checked."""
    import polars as pl
    from sqlglot import exp

    deepest = 0
    waiting = [(node, 0)]
    while waiting:
        one, depth = waiting.pop()
        deepest = max(deepest, depth)
        if deepest > MAX_DEPTH:
            raise RecursionError
        waiting += [(child, depth + 1) for child in one.iter_expressions()]
    # What cannot be cast is null, and so unknown, instead of an error that depends on the rows of a block.
    for cast in [one for one in node.find_all(exp.Cast) if type(one) is exp.Cast and not one.this.is_string]:
        tried = exp.TryCast(**cast.args)
        node = tried if cast is node else node
        cast.replace(tried)
    return pl.sql_expr(node.sql(dialect=_dialect(), identify=True, comments=False))


def evaluate(condition: Condition, table: pa.Table, *, where: str) -> Answer:
    """Evaluate a condition on each row.

    A column of text (all are in CSV) is compared as text; where the condition cannot be read so, as numbers. A column
    that the table lacks is null.

    Raises
    ------
    ConfigError
        If the condition cannot be evaluated.
    """
    import polars as pl

    rows = table.num_rows
    arrow = {name: table.column(name) for name in condition.columns if name in table.column_names}
    frame = pl.DataFrame({name: pl.Series(name, pl.from_arrow(column)) for name, column in arrow.items()})
    if not arrow:
        frame = pl.DataFrame({"": pl.Series("", [None] * rows)})
    frame = frame.with_columns([pl.lit(None).alias(name) for name in condition.columns if name not in arrow])
    try:
        numbers = _as_numbers(condition, frame.clear(2))
        read = frame.with_columns(
            pl.col(name).str.strip_chars().cast(pl.Int128 if condition.wide else pl.Float64, strict=False)
            for name in numbers
        )
        answer = read.select(answer=condition.expression)["answer"]
    except (pl.exceptions.PolarsError, TypeError) as problem:
        raise ConfigError(
            f"the condition {_short(condition.text)!r} cannot be evaluated: {_first_line(problem)}",
            where=where,
            hint="Columns there: "
            + ", ".join(f"{n} ({frame.schema[n]})" for n in condition.columns if n in arrow)
            + "."
            + (" A date is written DATE '2020-01-31'." if any(t.is_temporal() for t in frame.dtypes) else ""),
        ) from problem
    if len(answer) != rows:  # a condition on no column
        answer = answer.extend_constant(answer[0], rows - len(answer))
    null = answer.is_null().to_numpy()
    unknown = np.zeros(rows, dtype=bool)
    if null.any():
        filled = {name: _filled(frame[name]) for name in condition.columns}
        unknown = null & np.logical_and.reduce(list(filled.values()) or [unknown])
        for name in numbers:
            unknown |= null & filled[name] & read[name].is_null().to_numpy()
    return Answer(holds=answer.cast(pl.Boolean).fill_null(False).to_numpy().astype(bool), unknown=unknown)


def _filled(column: pl.Series) -> NDArray[np.bool_]:
    import polars as pl

    there = column.is_not_null()
    if column.dtype == pl.String:
        there &= column.str.strip_chars() != ""
    return there.fill_null(False).to_numpy().astype(bool)


def _as_numbers(condition: Condition, empty: pl.DataFrame) -> tuple[str, ...]:
    """Return the text columns to be compared as numbers, determined from the column types alone."""
    import polars as pl

    texts = [name for name in condition.columns if empty.schema[name] == pl.String]
    subsets: list[tuple[str, ...]] = [(), tuple(texts)]
    if len(texts) <= _COMBINED:
        subsets = [subset for size in range(len(texts) + 1) for subset in itertools.combinations(texts, size)]
    problem: Exception | None = None
    number = pl.Int128 if condition.wide else pl.Float64
    for subset in subsets:
        try:
            casts = [pl.col(name).cast(number, strict=False) for name in subset]
            answer = empty.with_columns(casts).select(answer=condition.expression)["answer"]
        except pl.exceptions.PolarsError as error:
            problem = problem or error
            continue
        if answer.dtype == pl.Boolean or answer.dtype == pl.Null:
            return subset
        problem = problem or TypeError(f"it gives {answer.dtype}, not true or false")
    raise problem or TypeError("it is no condition")


def _refusal(text: str, problem: str, where: str) -> ConfigError:
    return ConfigError(
        f"the condition {_short(text)!r} cannot be read: {problem}",
        where=where,
        hint="Write a SQL condition on the columns of one row, such as \"year >= 2020 AND lang = 'en'\".",
    )


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def _place(error: Exception) -> str:
    """Return the message of sqlglot without terminal colours."""
    found = getattr(error, "errors", None)
    if not found:
        return _first_line(error)
    first = found[0]
    return f"it does not parse at column {first['col']}, near {str(first['highlight'])[:40]!r}"


def _first_line(error: BaseException | None) -> str:
    lines = str(error).strip().split("\n")
    # Errors of regular expressions span several lines, with the message in the last.
    reason = next((line for line in lines if line.startswith("error: ")), "") if "regex" in lines[0] else ""
    return f"{lines[0].rstrip(':')}: {reason.removeprefix('error: ')}"[:300] if reason else lines[0][:300]
