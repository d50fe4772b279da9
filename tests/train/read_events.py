# read_events.py EVENT_DRIVER: what event_driver wrote is what TensorBoard reads. 77: TensorBoard is not installed.
import subprocess
import sys
import tempfile

try:
    from tensorboard.backend.event_processing import event_accumulator
except ImportError:
    sys.exit(77)


def expect(found, expected):
    if found != expected:
        sys.exit(f"read_events: found {found!r}, expected {expected!r}")


with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.argv[1], folder], check=True)
    events = event_accumulator.EventAccumulator(folder)
    events.Reload()
    expect(sorted(events.Tags()["scalars"]), ["loss"])
    expect(events.Tags()["images"], ["samples"])
    # Steps 30 and 40 of the first file are dropped: the second began at 21.
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    expect([step for step, _ in losses], [10, 20, 30, 3_000_000_000])
    expect([round(value, 6) for _, value in losses], [0.1, 0.05, 0.5, 0.25])
    (image,) = events.Images("samples")
    expect((image.step, image.width, image.height), (30, 2, 1))
    expect(image.encoded_image_string[:8], b"\x89PNG\r\n\x1a\n")
