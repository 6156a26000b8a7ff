"""What a machine has that the bundle did not bring: CUDA's libraries and tools. Standard library only."""

import glob
import os
import re
import shutil
import subprocess
import sys

# What is looked for under STEM.MAJOR, the name that the programs open, each with the major version that it
# was compiled for; one that is missing is said there.
LIBRARIES = {
    "cuBLASLt": "libcublasLt.so",
    "cuBLAS": "libcublas.so",
    "cuDNN": "libcudnn.so",
    "CUPTI": "libcupti.so",
    "driver": "libcuda.so",
}


def output_of(command, timeout=20):
    """Standard output of a command, or an empty string if it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        return done.stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def loader_cache():
    """Names of the libraries that the dynamic loader finds by itself."""
    text = output_of(["ldconfig", "-p"]) or output_of(["/sbin/ldconfig", "-p"])
    return set(re.findall(r"^\s*(\S+\.so[.\d]*) ", text, re.MULTILINE))


def toolkit_folders(environment):
    """Roots of CUDA installations: those that the environment names, then the usual places."""
    roots = [environment.get(name, "") for name in ("CUDA_HOME", "CUDA_PATH", "CUDNN_HOME")]
    roots += ["/usr/local/cuda"] + sorted(glob.glob("/usr/local/cuda-*"), reverse=True)
    return [root for root in roots if root and os.path.isdir(root)]


def python_folders():
    """Folders in which the Pythons of this machine keep packages."""
    code = "import sys; print('\\n'.join(sys.path))"
    pythons = {sys.executable, shutil.which("python3") or sys.executable}
    pythons.update(glob.glob("/opt/*/bin/python3") + glob.glob("/opt/*/.venv/bin/python3"))
    folders = list(sys.path)
    for python in sorted(pythons):
        folders += output_of([python, "-c", code]).splitlines()
    unique = dict.fromkeys(folder for folder in folders if os.path.isdir(folder))
    return list(unique)


def loader_folders(environment):
    """Folders that may hold CUDA's libraries, the likeliest first."""
    folders = []
    for root in toolkit_folders(environment):
        for inside in ("lib64", "lib", "targets/x86_64-linux/lib", "extras/CUPTI/lib64"):
            folders.append(os.path.join(root, inside))
    for root in python_folders():
        folders += sorted(glob.glob(os.path.join(root, "nvidia", "*", "lib")))
    folders += ["/usr/local/nvidia/lib64", "/usr/local/nvidia/lib",
                "/usr/lib/x86_64-linux-gnu/nvidia/current"]
    real = dict.fromkeys(folder for folder in folders if os.path.isdir(folder))
    return list(real)


def newest_major(stem, names):
    """The highest MAJOR of the names that are STEM.MAJOR, or -1 if none is."""
    majors = (re.fullmatch(re.escape(stem) + r"\.(\d+)", name) for name in names)
    return max((int(major.group(1)) for major in majors if major), default=-1)


def find_libraries(environment, cache=None, folders=None):
    """Where the newest of each of LIBRARIES is: name -> "" if the loader knows it, a folder, or None if
    nowhere. Of equal versions the loader's, then that of the first folder."""
    cache = loader_cache() if cache is None else cache
    folders = loader_folders(environment) if folders is None else folders
    found = {}
    for name, stem in LIBRARIES.items():
        places = [("", newest_major(stem, cache))]
        places += [(folder, newest_major(stem, os.listdir(folder))) for folder in folders]
        place, major = max(places, key=lambda entry: entry[1])
        found[name] = place if major >= 0 else None
    return found


def loader_path(found, environment, fallback=None):
    """LD_LIBRARY_PATH for the programs: what was set, then what was found, then the bundle's own."""
    folders = [part for part in environment.get("LD_LIBRARY_PATH", "").split(":") if part]
    folders += [folder for folder in found.values() if folder]
    # cuDNN opens its parts, and CUDA's compiler, by name.
    cudnn = found.get("cuDNN")
    if cudnn:
        folders += sorted(glob.glob(os.path.join(os.path.dirname(os.path.dirname(cudnn)), "*", "lib")))
    if fallback:
        folders.append(fallback)
    return ":".join(dict.fromkeys(folders))


def find_sanitizer(environment):
    """compute-sanitizer's file, or None."""
    on_path = shutil.which("compute-sanitizer", path=environment.get("PATH", os.defpath))
    if on_path:
        return on_path
    for root in toolkit_folders(environment):
        for inside in ("bin/compute-sanitizer", "compute-sanitizer/compute-sanitizer"):
            file = os.path.join(root, inside)
            if os.access(file, os.X_OK):
                return file
    return None


def describe(found, sanitizer):
    """The machine as text for the results."""
    lines = ["date: " + output_of(["date", "-u"]).strip(), "uname: " + output_of(["uname", "-a"]).strip()]
    for name, folder in found.items():
        place = {None: "not found", "": "known to the loader"}.get(folder, folder)
        lines.append(f"{name}: {place}")
    lines.append(f"compute-sanitizer: {sanitizer or 'not found'}")
    lines.append(output_of(["nvidia-smi"]) or "nvidia-smi: not found")
    lines.append(output_of(["nvidia-smi", "-q", "-d", "CLOCK,POWER,TEMPERATURE,PERFORMANCE"]))
    lines.append(output_of(["lscpu"]))
    return "\n".join(lines) + "\n"
