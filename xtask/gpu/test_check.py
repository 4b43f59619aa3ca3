"""Tests of `check` with a stand-in for the binary: failures, parts that hang, workloads that do not fit.

    python3 xtask/gpu/test_check.py
"""

import importlib.machinery
import importlib.util
import io
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path

sys.dont_write_bytecode = True
SCRIPT = Path(__file__).resolve().with_name("check")


def load():
    loader = importlib.machinery.SourceFileLoader("check", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("check", loader))
    loader.exec_module(module)
    return module


check = load()

# Answers like the binary. `image-lm-step` works, `head-step` fails, `mllm-step` never answers if there is a file `hang`,
# and one reference case is over its bound. It writes its process id into a given folder.
STAND_IN = """#!{python}
import os, sys, time
from pathlib import Path
words = sys.argv[1:]
verb = words[0]
(Path({folder!r}) / f"pid-{{os.getpid()}}").touch()
if verb == "list-adapters":
    print("a stand-in")
elif verb == "verify-reference":
    over = "vibevoice-small" in words[1]
    print("a case")
    print("  condition" + " " * 47 + "  2.50e-05  bound 1e-04")
    print("  loss" + " " * 52 + "  2.00e-04  bound 1e-04  OVER" if over else "  solver   0.00e0  bound 0e0")
    if over:
        sys.exit("error: 1 of 2 comparisons are over their bounds")
elif verb == "bench-worker":
    name = words[1]
    if name == "list":
        print("image-lm-step\\nhead-step\\nmllm-step\\nsample-16\\nsample-16-bf16\\nconv-codec-step")
        sys.exit()
    if name == "head-step":
        sys.exit("error: no such head")
    print('{{"kind": "image-lm-step", "batch": 2, "tokens": 4, "latent_dim": 16, "width": 32, "depth": 1, '
          '"heads": 2, "kv_heads": 1, "mlp_ratio": 4.0, "head_depth": 1, "draws": 4, "classes": 10}}', flush=True)
    count = 0
    for line in sys.stdin:
        if name == "mllm-step" and (Path({folder!r}) / "hang").exists():
            time.sleep(1000)
        count += 1
        print(2**20 if line.strip() == "memory" else count, flush=True)
elif verb == "speak":
    frames = int(words[words.index("--frames") + 1])
    sys.stdout.buffer.write(bytes(44))
    for _ in range(frames):
        time.sleep(0.02)
        sys.stdout.buffer.write(bytes(80))
        sys.stdout.buffer.flush()
elif verb == "transcribe":
    settings = (Path(words[words.index("--model") + 1]) / "generation_config.json").read_text()
    time.sleep(0.05 * int("".join(filter(str.isdigit, settings))))
elif verb == "bench-decode":
    print("position  backbone ms  head ms (20 solver steps)")
    print("      16        1.500    2.250")
    print("     256        3.500    4.250")
    print("the backbone's time grows by 133 % from position 16 to 256")
else:
    sys.exit(f"error: no {{verb}} here")
"""


def write_program(path, text):
    """Writes a file that can be run, by a process of its own: what this one is writing, the programs that other tests
    are starting have open too until they run, and a file that is open for writing can't be run."""
    subprocess.run(["sh", "-c", 'cat > "$0" && chmod 755 "$0"', str(path)], input=text, text=True, check=True)


class Whole(unittest.TestCase):
    """Runs of the script as a user starts it."""

    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.folder = Path(self.place.name)
        self.binary = self.folder / "latentlm"
        write_program(self.binary, STAND_IN.format(python=sys.executable, folder=str(self.folder)))
        self.out = self.folder / "gpu.json"

    def tearDown(self):
        self.place.cleanup()

    def run_check(self, *words):
        command = [sys.executable, SCRIPT, "--device", "cpu", "--out", self.out, "--binary", self.binary]
        # A Python without PyTorch, wherever the tests run.
        command += ["--python", self.folder / "no-python", *words]
        # Temporary files of the script lie where a test can see what is left of them.
        place = {**os.environ, "TMPDIR": str(self.folder)}
        return subprocess.run([str(word) for word in command], capture_output=True, text=True, env=place)

    def part(self, name):
        parts = json.loads(self.out.read_text())["parts"]
        return next(part for part in parts if part["name"] == name)

    def row(self, part, name, side):
        rows = [row for row in self.part(part)["rows"] if (row["name"], row["side"]) == (name, side)]
        self.assertEqual(len(rows), 1, f"{part}, {name}, {side}")
        return rows[0]

    def alive(self):
        """Stand-ins that are still running."""

        def runs(path):
            # A process that has ended has no command, also while nobody has waited for it, and its id may be another's.
            try:
                command = Path(f"/proc/{path.name[4:]}/cmdline").read_bytes()
            except OSError:
                return False
            return os.fsencode(self.binary) in command.split(b"\0")

        return [path.name for path in self.folder.glob("pid-*") if runs(path)]

    def assert_all_ended(self):
        """Killed processes end when it is their turn, which a busy machine may put off."""
        end = time.monotonic() + 60
        while self.alive() and time.monotonic() < end:
            time.sleep(0.05)
        self.assertEqual(self.alive(), [])

    def assert_step_is_timed(self):
        """The row of `image-lm-step`: units 1 to 13; the first four warm up, the median of the others is 9."""
        step = self.row("train", "image-lm-step", "ours")
        self.assertEqual((step["status"], step["ms"], step["first_ms"], step["mib"]), ("ok", 9.0, 1.0, 1.0))
        self.assertGreater(step["tflops"], 0)

    def test_failures_are_rows_and_a_part_that_hangs_is_ended(self):
        begun = time.monotonic()
        done = self.run_check("--only", "train,reference")
        taken = time.monotonic() - begun
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assert_step_is_timed()
        eager = self.row("train", "image-lm-step", "eager")
        self.assertEqual(eager["status"], "left out")
        self.assertIn("no PyTorch", eager["note"])
        head = self.row("train", "head-step", "ours")
        self.assertEqual(head["status"], "failed")
        self.assertIn("no such head", head["note"])
        self.assertEqual([self.part(name)["status"] for name in ("train", "reference")], ["done", "done"])
        case = self.row("reference", "schedule", "float32")
        self.assertEqual((case["status"], case["count"]), ("ok", 2))
        self.assertIn("0.25 of its bound at most: condition", case["note"])
        over = self.row("reference", "vibevoice-small", "float32")
        self.assertEqual(over["status"], "failed")
        self.assertIn("over their bounds", over["note"])
        self.assertIn("over: loss", over["note"])
        sides = [row["side"] for row in self.part("reference")["rows"] if row["name"].startswith("transformer")]
        self.assertEqual(sorted(sides), ["bfloat16", "float32"])

        # Once more, with time enough for all that answers, however busy the machine is; what never does takes a quarter
        # of an hour.
        (self.folder / "hang").touch()
        limit = min(math.ceil(3 + 4 * taken), check.LONGEST_PART_S)
        done = self.run_check("--only", "train,reference", "--limit", limit)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertEqual(self.part("train")["status"], "timed out")
        self.assertLess(self.part("train")["seconds"], 900)
        self.assert_step_is_timed()
        self.assert_all_ended()
        # The next part ran in spite of this.
        self.assertEqual(self.part("reference")["status"], "done")

    def test_parts_are_added_and_replaced(self):
        self.assertEqual(self.run_check("--only", "card").returncode, 0)
        done = self.run_check("--only", "sample", "--small")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("other sizes", done.stderr)
        done = self.run_check("--only", "sample")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(self.row("sample", "sample-16", "ours")["ms"], 9.0)
        self.run_check("--only", "card")
        names = [part["name"] for part in json.loads(self.out.read_text())["parts"]]
        self.assertEqual(names, ["sample", "card"])

    def test_other_files_are_not_overwritten(self):
        self.out.write_text("not ours")
        done = self.run_check("--only", "card")
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(self.out.read_text(), "not ours")

    def test_wrong_words_are_named(self):
        for words, said in [
            (["--only", "everything"], "no part `everything`"),
            (["--limit", "1000"], "--limit is 1 to 360"),
            (["--binary", "none"], "no binary at"),
        ]:
            done = self.run_check(*words)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(said, done.stderr)

    def test_small_sizes_and_one_more_latent(self):
        done = self.run_check("--small", "--only", "sizes,first-step")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        backbone = self.row("sizes", "tiny, one more latent", "backbone")
        head = self.row("sizes", "tiny, one more latent", "head")
        self.assertEqual((backbone["ms"], head["ms"]), (3.5, 4.25))
        cold, warm = (self.row("first-step", "image-lm-step", side) for side in ("cold", "warm"))
        self.assertGreater(cold["ms"], 1)
        self.assertGreater(warm["ms"], 1)

    def test_published_models_speak_and_transcribe(self):
        done = self.run_check("--small", "--only", "published")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for name in ("tiny realtime", "tiny dialogue", "tiny transcript"):
            sides = ("first token", "token") if name == "tiny transcript" else ("first sound", "frame")
            for numbers in ("float32", "bfloat16"):
                first, further = (self.row("published", f"{name}, {numbers} weights", side) for side in sides)
                # The stand-in sleeps for 20 ms a frame, 50 ms a token: 12 frames, 10 tokens in two runs.
                self.assertGreater(first["ms"], 20)
                self.assertGreater(first["seconds"], 0.23)
                # Where the script itself waits for its turn, all frames come at once, and the longer answer is faster.
                self.assertIn(further["status"], ("ok", "left out"))
                self.assertGreater(further.get("ms", 1), 0)
        self.assertEqual(self.row("published", "tiny realtime", "make-model")["status"], "ok")

    def test_what_a_part_has_written_is_removed_when_it_is_ended(self):
        text = self.binary.read_text()
        write_program(self.binary, text.replace('elif verb == "speak":', 'elif verb == "speak":\n    time.sleep(1000)'))
        self.run_check("--small", "--only", "published", "--limit", "3")
        self.assertEqual(self.part("published")["status"], "timed out")
        self.assertEqual(list(self.folder.glob("latentlm-check-*")), [])
        self.assert_all_ended()

    def test_a_command_that_the_binary_lacks_is_a_failed_row(self):
        done = self.run_check("--small", "--only", "recipes")
        self.assertEqual(done.returncode, 1)
        steps = [row for row in self.part("recipes")["rows"] if row["side"] == "step"]
        self.assertEqual([row["status"] for row in steps], ["failed"] * len(check.SMALL_RECIPES))
        self.assertIn("no train-image here", steps[0]["note"])


class Parts(unittest.TestCase):
    """Numbers that the script computes itself."""

    def test_limits_are_those_that_are_promised(self):
        limits = [limit for limit, _ in check.PARTS.values()]
        self.assertLessEqual(max(limits), 6 * 60)
        self.assertLessEqual(sum(limits), 18 * 60)
        for _, work in check.PARTS.values():
            self.assertTrue(work.__doc__)

    def test_published_sizes_have_the_parameters_that_are_known(self):
        # The parameters in the documents: backbone, head and labels.
        for name, millions in [("base", 143), ("medium", 454), ("large", 1020), ("xl", 1810)]:
            found = check.parameters(check.SIZES[name]) / 1e6
            self.assertAlmostEqual(found / millions, 1, delta=0.02, msg=name)

    def test_published_sizes_are_those_of_the_recipes(self):
        for name, sizes in check.SIZES.items():
            text = (check.ROOT / "configs" / "image" / f"imagenet256-{name}.toml").read_text()
            lm = re.search(r"(?ms)^\[lm\]$(.*?)^\[", text).group(1)
            keys = dict(re.findall(r"(?m)^(\w+) = (\S+)", lm))
            for key in ("width", "depth", "heads", "head_depth", "mlp_ratio", "recompute"):
                self.assertEqual(keys[key], str(sizes[key]).lower(), f"{name}: {key}")
            self.assertEqual(int(keys["kv_heads"]) or sizes["heads"], sizes["kv_heads"], name)
            self.assertEqual(int(keys["batch_mul"]), sizes["draws"], name)

    def test_operations_are_counted_as_by_hand(self):
        sizes = {**check.TINY, "latent_dim": 1, "width": 192, "heads": 1, "kv_heads": 1, "mlp_ratio": 1.0}
        sizes.update(batch=2, tokens=3, depth=1, head_depth=1, draws=5)
        # Width 192, inner floor(192 * 2/3 / 64) * 64 = 128.
        block = 4 * 192**2 + 3 * 192 * 128
        position = 192 + block + 192**2
        draw = 2 * 192 + (3 * 192**2 + 3 * 192 * 128) + 2 * 192**2 + 256 * 192 + 192**2
        forward = 2 * 3 * position + 4 * 192 * 6
        self.assertEqual(check.step_operations(sizes), 3 * 2 * (forward + 2 * 3 * 5 * draw))

    def test_memory_grows_with_batch_and_size_and_decides(self):
        base = check.SIZES["base"]
        state = 20 * check.parameters(base) / 2**20
        one, two = (check.step_mib({**base, "batch": batch}) for batch in (1, 2))
        self.assertGreater(one, state)
        self.assertAlmostEqual(two - one, one - state, delta=1)
        self.assertGreater(check.step_mib(check.SIZES["xl"]), 2 * check.step_mib(check.SIZES["medium"]))
        # 12 blocks and 3 layers, 4 draws; recomputed: 12 inputs of 4 bytes a number and one block; of layers 4 and one.
        rows = base["batch"] * base["tokens"] * base["width"] / 2**20
        recomputed = check.step_mib({**base, "recompute": True}) - state
        self.assertAlmostEqual(check.step_mib(base) - state, rows * (12 * 160 + 4 * 3 * 120), places=6)
        self.assertAlmostEqual(recomputed, rows * (12 * 4 + 160 + 4 * (4 * 4 + 120)), places=6)
        check.free_mib = lambda device: 1000
        try:
            check.check_fit("cuda", 999)
            with self.assertRaisesRegex(check.LeftOut, "needs about 2.0 GiB, 1.0 are free"):
                check.check_fit("cuda", 2048)
        finally:
            globals()["check"] = load()

    def test_steps_that_do_not_fit_are_left_out(self):
        sizes = {**check.TINY, "kind": "image-lm-step"}
        del sizes["recompute"]
        check.free_mib = lambda device: 1e-3
        try:
            with self.assertRaisesRegex(check.LeftOut, "are free"):
                check.check_step("cuda", json.dumps(sizes))
            check.check_step("cuda", json.dumps({"kind": "speech-decode"}))
        finally:
            globals()["check"] = load()

    def test_frames_are_timed_over_the_second_half(self):
        # Four frames of ten bytes behind the header; two of them arrive by 3 s, the others in the 2 s after.
        arrivals = [(0.5, 44), (2.0, 54), (3.0, 64), (4.5, 74), (5.0, 84)]
        self.assertEqual(check.frame_times(arrivals, 4), (2000.0, 1000.0))
        self.assertEqual(check.frame_times([(0.5, 44), (1.0, 84)], 4), (1000.0, None))
        with self.assertRaisesRegex(check.Failed, "no sound"):
            check.frame_times([(0.5, 44)], 4)

    def test_models_are_left_out_by_time_memory_and_disk(self):
        # With the part's own seconds the first two, alone all of them.
        for jobs, seconds, count in [(4, check.PARTS["published"][0], 2), (4, 360, 4), (1, 360, 3), (4, 30, 0)]:
            plan, fitting = check.Plan(jobs, seconds), []
            for member in check.MEMBERS:
                try:
                    plan.add(member)
                    fitting.append(member)
                except check.LeftOut as reason:
                    self.assertEqual("--limit 360" in str(reason), seconds < 360)
            self.assertEqual(fitting, check.MEMBERS[:count], f"{jobs} jobs, {seconds} s")
        # 2.704 billion float32 weights are 10.07 GiB, and 1 GiB more.
        member, args = check.MEMBERS[1], check.read_arguments(["--device", "cuda"])
        check.free_mib = lambda device: 11 * 1024
        try:
            with self.assertRaisesRegex(check.LeftOut, "needs about 11.1 GiB, 11.0 are free"):
                check.check_member(args, member, 1e12)
            check.free_mib = lambda device: 12 * 1024
            check.check_member(args, member, 1e12)
            with self.assertRaisesRegex(check.LeftOut, "its files need 5.0 GiB, 0.9 are free on the disk"):
                check.check_member(args, member, 1e9)
        finally:
            globals()["check"] = load()

    def test_on_a_gpu_bfloat16_weights_are_left_out_by_name(self):
        args = check.read_arguments(["--device", "cuda"])
        watched = type("Watched", (), {"memory": lambda self: {"mib": 5.0}})()
        check.speech_times = lambda *_: (watched, 900.0, 40.0)
        printed = io.StringIO()
        try:
            with redirect_stdout(printed):
                check.measure_member(args, check.MEMBERS[1], Path("nowhere"))
        finally:
            globals()["check"] = load()
        first, frame, rounded = map(json.loads, printed.getvalue().splitlines())
        self.assertEqual((first["side"], first["ms"], first["mib"]), ("first sound", 900.0, 5.0))
        self.assertEqual((frame["side"], frame["ms"]), ("frame", 40.0))
        self.assertEqual((rounded["name"], rounded["status"]), ("VibeVoice-1.5B, bfloat16 weights", "left out"))
        self.assertIn("float32 weights on a GPU", rounded["note"])

    def test_what_is_too_short_to_be_timed_fails_nothing(self):
        args = check.read_arguments(["--device", "cpu"])
        watched = type("Watched", (), {"memory": lambda self: {}})()
        check.transcript_times = lambda *_: (watched, 900.0, None)
        printed = io.StringIO()
        try:
            with redirect_stdout(printed):
                check.measure_member(args, check.MEMBERS[2], Path("nowhere"))
        finally:
            globals()["check"] = load()
        rows = [json.loads(line) for line in printed.getvalue().splitlines()]
        found = [(row["side"], row["status"]) for row in rows]
        self.assertEqual(found, 2 * [("first token", "ok"), ("token", "left out")])

    def test_a_voice_has_the_shapes_of_the_published_model(self):
        sizes = {"text_depth": 1, "speech_depth": 2, "width": 6, "kv_heads": 2, "head_dim": 3}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "voice.safetensors"
            check.write_voice(path, sizes, {"lm": 4, "neg_tts_lm": 1})
            data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        shapes = {name: tensor["shape"] for name, tensor in header.items()}
        expected = {"lm.last_hidden_state": [1, 4, 6], "neg_tts_lm.last_hidden_state": [1, 1, 6]}
        expected.update({f"lm.{what}.0": [1, 2, 4, 3] for what in ("key", "value")})
        expected.update({f"neg_tts_lm.{what}.{layer}": [1, 2, 1, 3] for what in ("key", "value") for layer in (0, 1)})
        self.assertEqual(shapes, expected)
        # 24 numbers of hidden states, 2 x 24 of caches; 6, and 4 x 6.
        self.assertEqual(len(data) - 8 - length, 4 * (24 + 48 + 6 + 24))
        self.assertEqual(max(tensor["data_offsets"][1] for tensor in header.values()), len(data) - 8 - length)
        source = check.ROOT / "crates/latentlm-published/src/published_sizes.rs"
        if not source.exists():
            return  # Unpacked from an archive, which has no sources.
        keys = {}
        for block in ("speech_1_5b", "realtime"):
            body = re.search(rf"(?s)pub fn {block}\(\).*?\n    }}\n", source.read_text()).group(0)
            keys.update(re.findall(r"(\w+): (\d+),", body))
        keys = {name: int(keys[name]) for name in ("width", "depth", "upper_depth", "heads", "kv_heads")}
        voice = check.REALTIME_VOICE
        self.assertEqual((voice["width"], voice["kv_heads"]), (keys["width"], keys["kv_heads"]))
        self.assertEqual(voice["speech_depth"], keys["upper_depth"])
        self.assertEqual(voice["text_depth"], keys["depth"] - keys["upper_depth"])
        self.assertEqual(voice["head_dim"], keys["width"] // keys["heads"])

    def test_files_of_published_models_are_there(self):
        for name in (check.VOCABULARY, check.VOICE, check.RECORDING):
            self.assertTrue((check.ROOT / name).is_file(), name)
        for member in check.SMALL_MEMBERS:
            self.assertTrue((check.ROOT / "tests/fixtures" / member.model).is_dir(), member.model)

    def test_every_recipe_that_ships_is_there(self):
        configs = check.ROOT / "configs"
        shipped = {
            f"{folder}/{path.stem}" for folder in ("image", "tts", "mllm", "video") for path in (configs / folder).glob("*.toml")
        }
        self.assertEqual({name for _, name, _ in check.RECIPES}, shipped)
        for _, name, changes in check.RECIPES + check.SMALL_RECIPES:
            text = (configs / f"{name}.toml").read_text()
            for key in (change.split("=")[0] for change in [*check.ONE_STEP, *changes]):
                section, last = key.rsplit(".", 1)
                self.assertIn(f"[{section}]", text, name)
                self.assertRegex(text, rf"(?m)^{last} = ", name)

    def test_lines_of_comparisons_are_read(self):
        printed = "a\n  x  1.00e-05  bound 1e-04\n  y z  NaN  bound 1e-03  OVER\n  same  0.00e0  bound 0e0\n"
        self.assertEqual(check.compared(printed)["count"], 3)
        self.assertIn("y z", check.compared(printed)["note"])
        with self.assertRaises(check.Failed):
            check.compared("nothing")

    def test_errors_are_one_line(self):
        self.assertEqual(check.last_line("a\nerror: no card\nnote: more\n"), "error: no card")
        self.assertEqual(check.last_line("  \n"), "it said nothing")
        panic = "thread 'main' panicked at src/a.rs:1:2:\nno memory\nnote: run with an error\n"
        self.assertEqual(check.last_line(panic), "thread 'main' panicked at src/a.rs:1:2: no memory")

    def test_groups_hold_every_small_workload_once(self):
        groups = {"image-lm-step-base": "train", "mllm-step": "train", "sample-64": "sample"}
        groups.update({"speech-decode": "sample", "conv-codec-step": "codec", "speech-codec-step": "codec"})
        for name, group in groups.items():
            found = [other for other in ("train", "sample", "codec") if check.belongs(name, other)]
            self.assertEqual(found, [group], name)
        for name in ("backbone-bf16", "codec-decode-f32", "codec-both-bf16", "attention-16k"):
            self.assertFalse(any(check.belongs(name, other) for other in ("train", "sample", "codec")), name)

    def test_a_row_tells_what_failed(self):
        def broken():
            raise ValueError("of ours")

        printed = io.StringIO()
        with redirect_stdout(printed):
            self.assertFalse(check.attempt("name", "side", broken))
            self.assertTrue(check.attempt("name", "side", lambda: {"ms": 1.5}))
        failed, done = map(json.loads, printed.getvalue().splitlines())
        self.assertEqual((failed["status"], failed["note"]), ("failed", "ValueError: of ours"))
        self.assertEqual((done["status"], done["ms"]), ("ok", 1.5))


class AtOnce(unittest.TestSuite):
    """Runs tests at the same time. Each must have files and processes of its own."""

    def run(self, result, debug=False):
        def alone(test):
            own = unittest.TestResult()
            test.run(own)
            return own

        with ThreadPoolExecutor(max_workers=4) as pool:
            for test, own in zip(self, pool.map(alone, self)):
                result.startTest(test)
                result.failures += own.failures
                result.errors += own.errors
                if own.wasSuccessful():
                    result.addSuccess(test)
                result.stopTest(test)
        return result


def load_tests(loader, tests, pattern):
    """Most of the time whole runs wait for their limits; other tests change what all of them share."""
    whole = AtOnce(loader.loadTestsFromTestCase(Whole))
    return unittest.TestSuite([whole, loader.loadTestsFromTestCase(Parts)])


if __name__ == "__main__":
    if not hasattr(os, "killpg"):
        print("skipped: this system has no process groups", file=sys.stderr)
        sys.exit(0)
    unittest.main()
