"""Small ONNX files, and the recipe of a run by one separator."""

import numpy as np
import yaml
from onnx import TensorProto, helper, numpy_helper

from makers.audio import noise32, write_track


def write_graph(path, shape, gains=(1.0,), joined_on=None, constant=False):
    """A graph whose outputs, joined along an axis or not, are its input times a gain each, or the gain alone."""
    values, nodes, names = [], [], []
    for index, gain in enumerate(gains):
        values.append(numpy_helper.from_array(np.float32(0 if constant else gain), f"gain {index}"))
        values.append(numpy_helper.from_array(np.float32(gain if constant else 0), f"offset {index}"))
        nodes.append(helper.make_node("Mul", ["input", f"gain {index}"], [f"scaled {index}"]))
        nodes.append(helper.make_node("Add", [f"scaled {index}", f"offset {index}"], [f"output {index}"]))
        names.append(f"output {index}")
    if joined_on is not None:
        nodes.append(helper.make_node("Concat", names, ["all"], axis=joined_on))
        names = ["all"]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "small", [given], outputs, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def write_description(path, **description):
    """A description in YAML."""
    path.write_text(yaml.safe_dump(description))
    return path


def write_recipe(folder, separator, sources="vocals,accompaniment=drums+bass+other"):
    """A recipe with one separator on a song of a second; its path."""
    write_track(folder / "songs" / "test" / "song", noise32(4, 2, 44_100, seed=1), subtype="FLOAT")
    given = {
        "out": str(folder / "run"),
        "store": str(folder / "store"),
        "data": [str(folder / "songs")],
        "sources": sources,
        "separators": [separator],
        "players": {"tracks": 0},
        "bounds": None,
        "workers": 1,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(given))
    return path
