"""Runs netx files with lava-dl's own loader in lava-nc's fixed-point models.

Not imported here: ``$SPIKEPORT_LAVA_DL_PYTHON tests/netx_loader.py jobs.npz result.npz`` in an interpreter that has
lava-nc 0.10.0 and lava-dl. ``jobs``: JSON list of ``{path, kwargs, feed}``; job k runs each sample of ``x<k>``
(samples, T, c, h, w) and gives ``y<k>`` (samples, T, ...), each step as the loader's last layer sends it.
"""

import json
import sys

import numpy as np


def run(spec, sample):
    """One sample through a network of its own: the loader has no reset to the beginning."""
    from lava.lib.dl.netx.hdf5 import Network
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source

    net = Network(net_config=spec["path"], **spec["kwargs"])
    steps = len(sample)
    data = sample.transpose(*range(sample.ndim - 1, -1, -1)).astype(np.int32)  # (w, h, c, T)
    if spec["feed"] == "bias":
        net.in_layer.neuron.bias_mant.init = data[..., 0]
    else:
        port = net.in_layer.neuron.a_in if spec["feed"] == "delta" else net.in_layer.inp
        flat = sample.reshape(steps, -1).T.astype(np.int32)
        source = Source(data=np.ascontiguousarray(data if len(port.shape) > 1 else flat))
        source.s_out.connect(port)
    sink = Sink(shape=net.out_layer.out.shape, buffer=steps)
    net.out_layer.out.connect(sink.a_in)
    net.run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    y = sink.data.get()
    net.stop()
    return y.transpose(*range(y.ndim - 1, -1, -1))


def main(jobs, result):
    """See the module."""
    from lava.proc.conv import utils

    utils.TORCH_IS_AVAILABLE = False  # torch's threads and lava's forks do not go together
    job = np.load(jobs, allow_pickle=False)
    done = {}
    for k, spec in enumerate(json.loads(str(job["jobs"]))):
        done[f"y{k}"] = np.stack([run(spec, sample) for sample in job[f"x{k}"]]).astype(np.int32)
    np.savez(result, **done)


if __name__ == "__main__":
    main(*sys.argv[1:])
