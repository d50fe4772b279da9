#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Do the tests of the kernels notice a wrong kernel?

Makes mutants of kernels/ddpm/kernels mechanically (a barrier less, `<=` for `<`, ...), compiles each into the
programs of tests/simt that instantiate the kernel (plain, race and ASan, until one of them fails) and runs the
unchanged tests. Needs a build tree with those programs in it and its compile_commands.json.

A mutant whose machine code is that of the original is not counted, nor is one that does not compile. One that no
test can tell from the original is listed, with the reason, in equivalent.txt. Of the others, 97 % must be caught.
"""
import argparse
import collections
import concurrent.futures
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import re
import shutil
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
KERNELS = ROOT / "kernels" / "ddpm" / "kernels"
EQUIVALENT = pathlib.Path(__file__).with_name("equivalent.txt")
LEAST_CAUGHT = 0.97
FLAVOURS = ("sim", "race", "asan")

# kind, what is found, what takes its place. clang-format puts spaces around operators and none around the brackets
# of templates. 4 is the vector of a quad.
RULES = [
    ("barrier", r"\b__sync(?:threads|warp)\([^()]*\);", ";"),
    ("wait", r"\b(\w*wait\w*)<(\w+)>\(\)", r"\1<\2 + 1>()"),
    ("wait", r"(\bmbarrier_wait_parity\([^;]*)\);", r"\1 ^ 1u);"),
    ("commit", r"\b(?:\w+::)*\w*commit\w*\(\);", ";"),
    ("compare", r" < ", " <= "),
    ("compare", r" <= ", " < "),
    ("compare", r" > ", " >= "),
    ("compare", r" >= ", " > "),
    ("compare", r" == ", " != "),
    ("compare", r" != ", " == "),
    ("bound", r" ([<>]=?) ", r" \1 4 + "),
    ("zero", r"\] = \{\}", "] = {1, 1}"),
    ("zero", r"(?<=\w = )0(?=[;,])", "1"),
    ("zero", r" \?(?= [^?:;]+ : (?:0|0\.0f|T\{\}|T\(0\))[;,)])", " || true ?"),
    ("swizzle", r"\b\w*swizzle\w*(?=\()", ""),
    ("index", r"\[(\d)\]", lambda match: f"[{int(match[1]) ^ 1}]"),
    ("swap", r"\b(\w+)\[(\w+)\], \1\[(\w+)\]", r"\1[\3], \1[\2]"),
    ("accumulate", r" \+= ", " = "),
    ("sign", r" \+ ", " - "),
    ("sign", r" - ", " + "),
    ("optional", r"\bif \(!?\w+(?:\.\w+)+\)", "if (false)"),
    ("optional", r"\b\w+(?:\.\w+)+(?= \? )", "false"),
]


@dataclasses.dataclass(frozen=True)
class Mutant:
    file: str  # relative to KERNELS
    kind: str
    start: int
    end: int
    text: str

    def source(self):
        return (KERNELS / self.file).read_text()

    def changed(self):
        source = self.source()
        return source[: self.start] + self.text + source[self.end :]

    def line_number(self):
        return self.source().count("\n", 0, self.start) + 1

    def lines(self):
        """The changed line before and after."""
        number = self.line_number() - 1
        return tuple(" ".join(text.splitlines()[number].split()) for text in (self.source(), self.changed()))

    def description(self):
        before, after = self.lines()
        return f"{self.file}:{self.line_number()} ({self.kind})\n    - {before}\n    + {after}"


@dataclasses.dataclass
class Program:
    test: str  # as add_simt_test names it
    flavour: str
    compile: list  # the command, without its output
    compile_folder: pathlib.Path
    files: set  # of KERNELS that it includes
    link: list = None  # the command, with OBJECT and PROGRAM in it
    link_folder: pathlib.Path = None
    seconds: float = 0  # of processor time that its tests take

    @property
    def name(self):
        return f"{self.test}_{self.flavour}"


def blank(match):
    return re.sub(r"[^\n]", " ", match[0])


def make_mutants(file):
    """Comments, strings and preprocessor lines stay as they are."""
    code = re.sub(r'//[^\n]*|"(?:\\.|[^"\n])*"|^#[^\n]*', blank, (KERNELS / file).read_text(), flags=re.M)
    for kind, pattern, replacement in RULES:
        for match in re.finditer(pattern, code):
            text = replacement(match) if callable(replacement) else match.expand(replacement)
            yield Mutant(file, kind, match.start(), match.end(), text)


def run(command, folder, **options):
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", **options)


def must(command, folder):
    result = run(command, folder)
    if result.returncode != 0:
        sys.exit(f"mutants: {shlex.join(map(str, command))} failed:\n{result.stderr}")
    return result.stdout


def link_command(build, name):
    for folder in (build, build / "tests" / "simt"):
        script = folder / "CMakeFiles" / f"{name}.dir" / "link.txt"
        if script.exists():
            return shlex.split(script.read_text()), folder
    commands = must(["ninja", "-t", "commands", name], build).splitlines()
    return [word for word in shlex.split(commands[-1]) if word not in (":", "&&")], build


def find_programs(build):
    """Those that add_simt_test made of kernels of the library."""
    programs = []
    for entry in json.loads((build / "compile_commands.json").read_text()):
        command, folder = shlex.split(entry["command"]), pathlib.Path(entry["directory"])
        at = command.index("-o") if "-o" in command else 0
        match = re.search(r"(simt_\w+)_(sim|asan|race)_kernels\.dir/", command[at + 1])
        if not match:
            continue
        item = command[at + 1]
        del command[at : at + 2]
        included = must([*command, "-MM", "-MF", "-"], folder).replace("\\\n", " ").split()
        paths = [(folder / path).resolve() for path in included]
        files = {str(path.relative_to(KERNELS)) for path in paths if path.is_relative_to(KERNELS)}
        if not any(is_family(file) for file in files):
            continue
        program = Program(match[1], match[2], command, folder, files)
        link, program.link_folder = link_command(build, program.name)
        at = link.index("-o") + 1
        if not (program.link_folder / link[at]).exists():
            print(f"left out, because it is not built: {program.name}")
            continue
        link[at] = "PROGRAM"
        program.link = ["OBJECT" if word.endswith(".o") and item.endswith(word) else word for word in link]
        programs.append(program)
    return programs


def is_family(file):
    return "/" not in file and file not in ("launch.cuh", "pack.cuh")


def is_mutated(file):
    """Not the instructions' host definitions, nor the start of kernels: those have tests of their own."""
    return not file.startswith("arch/") and file != "launch.cuh"


def without_columns(assembly):
    """std::source_location holds columns, which a mutation moves."""
    return re.sub(r"(\.Lsrc_loc\d+:\n\t\.quad.*\n\t\.quad.*\n\t\.long\t\d+\n)\t\.long\t\d+", r"\1", assembly)


class Judge:
    def __init__(self, build, launcher, work):
        self.launcher = launcher
        self.work = work  # a folder
        self.programs = find_programs(build)
        self.machine_code = {}  # of each program's unchanged kernels, hashed

    def compile(self, program, folder):
        """The object, and a hash of its machine code; None where the compiler refuses the kernels.

        `folder` is where the kernels are, by a name that std::source_location must not see.
        """
        assembly, item = folder / "kernels.s", folder / "kernels.o"
        command = [program.compile[0], f"-I{folder}", f"-ffile-prefix-map={folder}=", *program.compile[1:], "-g0", "-w"]
        command = [word for word in command if word not in ("-c", "-g")]
        if run([*command, "-S", "-o", str(assembly)], program.compile_folder).returncode != 0:
            return None
        must([program.compile[0], "-c", "-o", str(item), str(assembly)], folder)
        text = without_columns(assembly.read_text())
        return item, hashlib.sha256(text.encode()).hexdigest()

    def test(self, program, item, folder):
        """Whether its tests pass, and the seconds of processor time that they took, at most 5 times the usual."""
        path = folder / program.name
        names = {"OBJECT": str(item), "PROGRAM": str(path)}
        must([names.get(word, word) for word in program.link], program.link_folder)
        limit = ["prlimit", f"--cpu={math.ceil(5 * program.seconds + 5)}"]
        process = subprocess.Popen([*limit, *self.launcher, str(path), "--abort"], cwd=folder,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        path.unlink()
        return status == 0, usage.ru_utime + usage.ru_stime

    def check_unchanged(self, program):
        with tempfile.TemporaryDirectory(dir=self.work) as name:
            folder = pathlib.Path(name)
            shutil.copytree(KERNELS, folder / "ddpm" / "kernels")
            compiled = self.compile(program, folder)
            if compiled is None:
                sys.exit(f"mutants: the unchanged kernels of {program.name} do not compile")
            self.machine_code[program.name] = compiled[1]
            program.seconds = 600  # until it is known
            passes, program.seconds = self.test(program, compiled[0], folder)
            if not passes:
                sys.exit(f"mutants: {program.name} fails with the unchanged kernels")

    def programs_of(self, mutant):
        """Those named after the file first, then those that include the least; of each test, the plain one first."""
        stem = pathlib.Path(mutant.file).stem
        having = [program for program in self.programs if mutant.file in program.files]
        return sorted(having, key=lambda p: (stem not in p.test, len(p.files), p.test, p.flavour != "sim", p.seconds))

    def verdict(self, mutant):
        """The name of the program that caught it, "survived", "refused" or "no effect"."""
        with tempfile.TemporaryDirectory(dir=self.work) as name:
            folder = pathlib.Path(name)
            shutil.copytree(KERNELS, folder / "ddpm" / "kernels")
            (folder / "ddpm" / "kernels" / mutant.file).write_text(mutant.changed())
            verdict = "no effect"
            unaffected = set()  # tests; other flavours hold the columns of lines as well
            for program in self.programs_of(mutant):
                if program.test in unaffected:
                    continue
                compiled = self.compile(program, folder)
                if compiled is None:
                    return "refused"
                if program.flavour == "sim" and compiled[1] == self.machine_code[program.name]:
                    unaffected.add(program.test)
                    continue
                if not self.test(program, compiled[0], folder)[0]:
                    return program.name
                verdict = "survived"
            return verdict


def sample(mutants, count):
    """The same ones every time: of each file and kind in turn, those whose hash is least."""
    groups = collections.defaultdict(list)
    for mutant in mutants:
        groups[mutant.file, mutant.kind].append(mutant)
    for group in groups.values():
        group.sort(key=lambda mutant: hashlib.sha256(repr(mutant.lines()).encode()).digest())
    by_file = collections.defaultdict(list)
    for rank in range(max(map(len, groups.values()), default=0)):
        for (file, _), group in sorted(groups.items()):
            by_file[file] += group[rank : rank + 1]
    chosen = []
    for rank in range(max(map(len, by_file.values()), default=0)):
        for file in sorted(by_file):
            chosen += by_file[file][rank : rank + 1]
    return chosen[:count]


def read_equivalents():
    """Blocks of: the file, the line before (-) and after (+) the change, and the reason."""
    entries = {}
    text = "\n".join(line for line in EQUIVALENT.read_text().splitlines() if not line.startswith("#"))
    for block in filter(None, re.split(r"\n\s*\n", text.strip())):
        match = re.fullmatch(r"(\S+)\n- (.+)\n\+ (.+)\n((?:.+\n?)+)", block)
        if not match:
            sys.exit(f"mutants: {EQUIVALENT.name} holds a block without file, -, + and reason:\n{block}")
        entries[match[1], match[2], match[3]] = match[4]
    return entries


def print_table(verdicts, equivalents):
    """A row per file; the numbers of mutants that count, and of those caught."""
    rows = collections.defaultdict(collections.Counter)
    for mutant, verdict in verdicts.items():
        if verdict == "survived":
            verdict = "equivalent" if (mutant.file, *mutant.lines()) in equivalents else "survived"
        elif verdict not in ("refused", "no effect"):
            verdict = verdict.rsplit("_", 1)[1]
        rows[mutant.file][verdict] += 1
        rows["all"][verdict] += 1
    columns = (*FLAVOURS, "survived", "equivalent", "refused", "no effect")
    print(f"\n{'':24}{'caught by':^18}")
    print(f"{'':24}" + "".join(f"{column:>{max(6, len(column) + 2)}}" for column in columns))
    for file in sorted(rows, key=lambda file: (file == "all", file)):
        print(f"{file:24}" + "".join(f"{rows[file][column]:>{max(6, len(column) + 2)}}" for column in columns))
    caught = sum(rows["all"][flavour] for flavour in FLAVOURS)
    return caught, rows["all"]["survived"]


def judge_all(arguments, judge):
    """Prints the survivors and the table; whether all is well."""
    files = sorted(set().union(*(program.files for program in judge.programs)))
    mutants = [mutant for file in files if is_mutated(file) for mutant in make_mutants(file)]
    equivalents = read_equivalents()
    stale = set(equivalents) - {(mutant.file, *mutant.lines()) for mutant in mutants}
    mutants = [mutant for mutant in mutants if re.search(arguments.only, mutant.file)]
    if arguments.sample:
        mutants = sample(mutants, arguments.sample)

    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        used = {program.name: program for mutant in mutants for program in judge.programs_of(mutant)}
        list(pool.map(judge.check_unchanged, used.values()))
        verdicts = {}
        for mutant, verdict in zip(mutants, pool.map(judge.verdict, mutants)):
            verdicts[mutant] = verdict
            if len(verdicts) % 50 == 0:
                print(f"{len(verdicts)} of {len(mutants)} mutants", flush=True)
            if verdict == "survived" and (mutant.file, *mutant.lines()) not in equivalents:
                print(f"survived: {mutant.description()}", flush=True)
            elif verdict.startswith("simt_") and (mutant.file, *mutant.lines()) in equivalents:
                stale.add((mutant.file, *mutant.lines()))

    caught, survived = print_table(verdicts, equivalents)
    for entry in sorted(stale):
        print(f"in {EQUIVALENT.name}, but no such mutant, or it is caught: {entry}")
    share = caught / max(caught + survived, 1)
    print(f"{caught} of {caught + survived} mutants caught: {100 * share:.1f} %, at least {100 * LEAST_CAUGHT:.0f} % wanted")
    return share >= LEAST_CAUGHT and not stale


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True, help="the build tree")
    parser.add_argument("--sample", type=int, help="so many mutants instead of all")
    parser.add_argument("--only", default="", help="files that this regular expression finds")
    parser.add_argument("--launcher", default="", help="a command that starts the programs, as setarch")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="mutants_") as work:
        sys.exit(0 if judge_all(arguments, Judge(arguments.build.resolve(), shlex.split(arguments.launcher), work)) else 1)


if __name__ == "__main__":
    main()
