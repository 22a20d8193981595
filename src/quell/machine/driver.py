"""The loops around the pieces, as text of LLVM's language: over vectors of people, step lengths, and the tape."""

from __future__ import annotations

import string

LOOPS = string.Template("""
define void @run(ptr %table, ptr %given, ptr %lengths, ptr %piece, ptr %level, ptr %argument, ptr %column, ptr %work,
                 ptr %seen, ptr %outcome, i64 %people, i64 %paces, i64 %count, i64 %rows) #0 {
entry:
  %factors = getelementptr i8, ptr %work, i64 $fixed
  %sheet = mul i64 %people, %rows
  br label %person
person:
  %first = phi i64 [0, %entry], [%following, %done]
  %more = icmp slt i64 %first, %people
  br i1 %more, label %start, label %exit
start:
  %mine = getelementptr double, ptr %table, i64 %first
  call void @begin(ptr %work, ptr %mine, i64 %people)
  br label %pacing
pacing:
  %p = phi i64 [0, %start], [%pp, %paced]
  %unpaced = icmp slt i64 %p, %paces
  br i1 %unpaced, label %paced, label %play
paced:
  %lengthp = getelementptr double, ptr %lengths, i64 %p
  %length = load double, ptr %lengthp
  %pof = mul i64 %p, $pace
  %pf = getelementptr i8, ptr %factors, i64 %pof
  call void @pace(ptr %work, ptr %pf, double %length)
  %pp = add i64 %p, 1
  br label %pacing
play:
  br label %loop
loop:
  %i = phi i64 [0, %play], [%ii, %next]
  %row = phi i64 [0, %play], [%rownext, %next]
  %going = icmp slt i64 %i, %count
  br i1 %going, label %instruction, label %done
instruction:
  %wp = getelementptr i64, ptr %piece, i64 %i
  %which = load i64, ptr %wp
  %lp = getelementptr i64, ptr %level, i64 %i
  %lev = load i64, ptr %lp
  %lof = mul i64 %lev, $pace
  %f = getelementptr i8, ptr %factors, i64 %lof
  %ap = getelementptr double, ptr %argument, i64 %i
  %at = load double, ptr %ap
  %cp = getelementptr i64, ptr %column, i64 %i
  %col = load i64, ptr %cp
  %cof = mul i64 %col, %people
  %cofme = add i64 %cof, %first
  %amount = getelementptr double, ptr %given, i64 %cofme
  switch i64 %which, label %look [
$cases
  ]
look:
  %rof = mul i64 %row, %people
  %rofme = add i64 %rof, %first
  %to = getelementptr double, ptr %seen, i64 %rofme
  call void @emit(ptr %work, ptr %to, i64 %sheet)
  %rowmore = add i64 %row, 1
  br label %next
$bodies
next:
  %rownext = phi i64 [%rowmore, %look], $rows
  %ii = add i64 %i, 1
  br label %loop
done:
  %out = getelementptr double, ptr %outcome, i64 %first
  call void @finish(ptr %work, ptr %out, i64 %people)
  %following = add i64 %first, $width
  br label %person
exit:
  ret void
}
""")


def loops(pieces: int, width: int, fixed: int, factors: int) -> str:
    """The function ``run`` for so many pieces: ``width`` people in a vector, ``fixed`` numbers of state and constants.

    >>> "switch" in loops(1, 8, 2, 1)
    True
    """
    vector = width * 8  # bytes
    cases = "\n".join(f"    i64 {i}, label %do{i}" for i in range(pieces))
    bodies = "\n".join(
        f"do{i}:\n  %need{i} = call i1 @when{i}(ptr %work)\n  br i1 %need{i}, label %go{i}, label %next\n"
        f"go{i}:\n  call void @piece{i}(ptr %work, ptr %f, double %at, ptr %amount)\n  br label %next"
        for i in range(pieces)
    )
    rows = ", ".join(f"[%row, %do{i}], [%row, %go{i}]" for i in range(pieces))
    return LOOPS.substitute(
        cases=cases, bodies=bodies, rows=rows, width=width, fixed=fixed * vector, pace=factors * vector
    )
