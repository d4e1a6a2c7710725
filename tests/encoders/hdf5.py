"""HDF5 files as the programs of the field write them. h5py is the authority here."""

import json

import h5py
import numpy as np


def write_plain(path, userblock_size=0, libver=None, **datasets):
    """Datasets at the root; a value is an array, or (array, arguments of create_dataset)."""
    with h5py.File(path, "w", userblock_size=userblock_size, libver=libver) as file:
        for name, value in datasets.items():
            data, settings = value if isinstance(value, tuple) else (value, {})
            file.create_dataset(name.replace("__", "/"), data=data, **settings)
    return path


def write_hspy(path, data, axes, title="", metadata=None, version="3.3", **settings):
    """Signal of HyperSpy; `axes` are dictionaries in the order of the array."""
    with h5py.File(path, "a") as file:
        file.attrs["file_format"] = "HyperSpy"
        file.attrs["file_format_version"] = version
        group = file.create_group(f"Experiments/{title or '__unnamed__'}")
        group.create_dataset("data", data=data, **settings)
        for k, axis in enumerate(axes):
            _attributes(group.create_group(f"axis-{k}"), axis)
        _tree(group.create_group("metadata"), {"General": {"title": title}, **(metadata or {})})
        group.create_group("original_metadata")
    return path


def _attributes(group, facts):
    for name, value in facts.items():
        if name == "axis":
            group["axis"] = value
        else:
            group.attrs[name] = "_None_" if value is None else value


def _tree(group, facts):
    for name, value in facts.items():
        if isinstance(value, dict):
            _tree(group.create_group(name), value)
        elif isinstance(value, bytes):
            group.attrs[f"_bs_{name}"] = np.void(value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            parts = group.create_group(f"_list_{len(value)}_{name}")
            for k, member in enumerate(value):
                _tree(parts.create_group(str(k)), member)
        elif isinstance(value, list):
            if value:
                group[f"_list_{name}"] = value
            else:
                group.attrs[f"_list_empty_{name}"] = "_None_"
        else:
            group.attrs[name] = "_None_" if value is None else value


def write_ncem(path, data, dims, folder="data/scan", name="data", version=(0, 2)):
    """Berkeley EMD 0.x; `dims` are (vector, name, units) by axis, counted from 1 in the file."""
    with h5py.File(path, "a") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = version
        group = file.create_group(folder)
        group.attrs["emd_group_type"] = 1
        group[name] = data
        for k, (vector, label, units) in enumerate(dims):
            dim = group.create_dataset(f"dim{k + 1}", data=vector)
            if label is not None:
                dim.attrs["name"] = np.bytes_(label)
            if units is not None:
                dim.attrs["units"] = np.bytes_(units)
    return path


def write_emdfile(path, data, dims, python_class="DataCube", name="datacube"):
    """EMD 1.0 of py4DSTEM; dims counted from 0."""
    with h5py.File(path, "a") as file:
        file.attrs.update({"emd_group_type": "file", "version_major": 1, "version_minor": 0})
        root = file.require_group("root")
        root.attrs["emd_group_type"] = "root"
        group = root.create_group(name)
        group.attrs.update({"emd_group_type": "array", "python_class": python_class})
        group["data"] = data
        for k, (vector, label, units) in enumerate(dims):
            dim = group.create_dataset(f"dim{k}", data=vector)
            dim.attrs.update({"name": label, "units": units})
    return path


def write_velox(path, images=(), spectra=(), version="13", other=()):
    """Velox file; images are (array of (height, width, frames), metadata), spectra likewise; all numbers are texts."""
    with h5py.File(path, "w") as file:
        file["Version"] = np.array([json.dumps({"version": version, "format": "Velox"})], h5py.string_dtype())
        file.create_group("Data")
        for kind, arrays in (("Image", images), ("Spectrum", spectra), *other):
            group = file.require_group(f"Data/{kind}")
            for k, (array, metadata) in enumerate(arrays):
                one = group.create_group(f"{k:032x}")
                one.create_dataset("Data", data=array, chunks=(*array.shape[:-1], 1))
                text = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
                column = np.frombuffer(text.ljust(60000, b"\0"), "u1")
                one.create_dataset("Metadata", data=np.repeat(column[:, None], array.shape[-1], 1))
    return path


def add_velox_stream(path, events, width, height, channels, metadata, frames=1):
    """Stream of EDS events of one detector, added to a Velox file; 65535 ends a pixel."""
    with h5py.File(path, "a") as file:
        streams = file["Data"].require_group("SpectrumStream")
        one = streams.create_group(f"{len(streams):032x}")
        one.create_dataset("Data", data=np.asarray(events, "u2")[:, None], chunks=(8192, 1), maxshape=(None, 1))
        settings = {
            "bincount": str(channels),
            "StreamEncoding": "uint16",
            "RasterScanDefinition": {"Width": str(width), "Height": str(height)},
        }
        one["AcquisitionSettings"] = np.array([json.dumps(settings)], h5py.string_dtype())
        one["FrameLocationTable"] = np.zeros((frames, 1), "u8")
        column = np.frombuffer(json.dumps(metadata).encode().ljust(60000, b"\0"), "u1")
        one.create_dataset("Metadata", data=np.repeat(column[:, None], frames, 1))
    return path


def write_nexus(path, signals, default=None):
    """NeXus: signals are (name, array, axes {name: (index, values, units)}, interpretation)."""
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        file.attrs["default"] = "entry"
        if default:
            entry.attrs["default"] = default
        for name, array, axes, interpretation in signals:
            group = entry.create_group(name)
            group.attrs["NX_class"] = np.bytes_("NXdata")
            group.attrs["signal"] = "counts"
            group["counts"] = array
            names = ["."] * array.ndim
            for axis, (index, values, units) in axes.items():
                names[index] = axis
                group[axis] = values
                group.attrs[f"{axis}_indices"] = index
                if units:
                    group[axis].attrs["units"] = units
            group.attrs["axes"] = np.array(names, "S")
            if interpretation:
                group.attrs["interpretation"] = interpretation
    return path


def write_dectris(folder, parts, nimages=None, scan=None, base="run", pixel_size=None, pixel_mask=None, flatfield=None):
    """Master file, one data file for each of `parts` (frames, height, width), and the microscope's file.

    `flatfield`: factors, and whether the detector has applied them.
    """
    with h5py.File(folder / f"{base}_master.h5", "w") as master:
        data = master.create_group("entry/data")
        detector = master.create_group("entry/instrument/detector")
        master["entry/definition"] = np.bytes_("NXmx")
        detector["description"] = np.bytes_("Dectris ARINA")
        detector["count_time"] = 1e-3
        specific = detector.create_group("detectorSpecific")
        specific["nimages"] = sum(map(len, parts)) if nimages is None else nimages
        specific["ntrigger"] = 1
        specific["photon_energy"] = 200e3
        if pixel_mask is not None:
            specific["pixel_mask"] = np.asarray(pixel_mask, "u4")
        if flatfield is not None:
            specific["flatfield"] = np.asarray(flatfield[0], "f4")
            detector["flatfield_correction_applied"] = np.int8(flatfield[1])
        for k, frames in enumerate(parts, 1):
            name = f"{base}_data_{k:06d}.h5"
            data[f"data_{k:06d}"] = h5py.ExternalLink(name, "/entry/data/data")
            with h5py.File(folder / name, "w") as file:
                file.create_dataset("entry/data/data", data=frames, chunks=(1, *frames.shape[1:]), compression="gzip")
    if scan is not None:
        with h5py.File(folder / f"{base}.h5", "w") as file:
            facts = file.create_group("STEM Metadata").attrs
            facts["NumPixelsY"], facts["NumPixelsX"] = scan
            facts["Pixel Size"] = [pixel_size or 0.0]
    return folder / f"{base}_master.h5"
