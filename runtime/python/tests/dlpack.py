"""Tensors of a GPU that is not there, made with ctypes: by capsule, and by DLPack's C exchange API."""

import ctypes


class DLTensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
                ("rank", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8),
                ("lanes", ctypes.c_uint16), ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64)]


class Managed(ctypes.Structure):  # DLManagedTensor
    _fields_ = [("tensor", DLTensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


EXPORT = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(DLTensor))
STREAM = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p))


class ExchangeApi(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("previous", ctypes.c_void_p),
                ("unused", ctypes.c_void_p * 3), ("export", EXPORT), ("stream", STREAM)]


# A capsule keeps the address of its name.
LEGACY, EXCHANGE = b"dltensor", b"dlpack_exchange_api"
new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class OnGpu:
    """Shape, strides and type of a tensor; its memory is an address that nobody reads."""

    CODES = {"float16": (2, 16), "bfloat16": (4, 16), "int32": (0, 32), "uint8": (1, 8)}

    def __init__(self, *shape, dtype="float16", device=0, address=0x100000):
        code, bits = self.CODES[dtype]
        self.extents = (ctypes.c_int64 * len(shape))(*shape)
        self.view = DLTensor(address, 2, device, len(shape), code, bits, 1, self.extents, None, 0)

    def __dlpack_device__(self):
        return self.view.device_type, self.view.device_id

    def __dlpack__(self, *, stream):  # before DLPack 1: no version
        assert stream == -1
        self.managed = Managed(self.view, None, None)
        return new_capsule(ctypes.addressof(self.managed), LEGACY, None)


class Exchanged(OnGpu):
    """The same by the C exchange API; `asked` counts who asks for the current stream."""

    asked = []

    def __dlpack__(self, **_):
        raise AssertionError("the exchange API is there")


def _export(tensor, out):
    out[0] = tensor.view
    return 0


def _stream(device_type, device_id, out):
    Exchanged.asked.append((device_type, device_id))
    out[0] = 0x5000
    return 0


_api = ExchangeApi(1, 3, None, (ctypes.c_void_p * 3)(), EXPORT(_export), STREAM(_stream))
_newer = ExchangeApi(2, 0, ctypes.addressof(_api), (ctypes.c_void_p * 3)(), EXPORT(), STREAM())
Exchanged.__dlpack_c_exchange_api__ = new_capsule(ctypes.addressof(_newer), EXCHANGE, None)
