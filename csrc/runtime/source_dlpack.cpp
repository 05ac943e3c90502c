// Tensors of types that have the DLPack C exchange table (torch 2.11 and newer): no Python object
// is made on the way. The declarations follow dlpack.h 1.3, of which this is the part we read.
#include <cstdint>

#include "runtime/error.h"
#include "runtime/tensor_source.h"
#include "runtime/text.h"

namespace vllm {
namespace {

constexpr uint32_t kDLPackMajor = 1;

enum DLDeviceType { kDLCPU = 1, kDLCUDA = 2, kDLCUDAHost = 3, kDLCUDAManaged = 13 };
enum DLDataTypeCode : uint8_t { kDLInt = 0, kDLFloat = 2, kDLBfloat = 4 };

struct DLTensor {
  void* data;
  struct {
    int32_t type;  // DLDeviceType, or something newer
    int32_t index;
  } device;
  int32_t ndim;
  struct {
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
  } dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null when compact
  uint64_t byte_offset;
};

struct DLPackExchangeAPI {
  struct Header {
    struct {
      uint32_t major;
      uint32_t minor;
    } version;
    Header* older;
  } header;
  void* managed_tensor_allocator;
  void* managed_tensor_from_py_object_no_sync;
  void* managed_tensor_to_py_object_no_sync;
  int (*dltensor_from_py_object_no_sync)(void* object, DLTensor* out);
  int (*current_work_stream)(DLDeviceType device_type, int32_t device, void** out);
};

DType dtype_of(const DLTensor& tensor) {
  if (tensor.dtype.lanes != 1) return DType::other;
  switch (tensor.dtype.code << 8 | tensor.dtype.bits) {
    case kDLFloat << 8 | 32:
      return DType::float32;
    case kDLFloat << 8 | 16:
      return DType::float16;
    case kDLBfloat << 8 | 16:
      return DType::bfloat16;
    case kDLInt << 8 | 32:
      return DType::int32;
    case kDLInt << 8 | 64:
      return DType::int64;
    default:
      return DType::other;
  }
}

DeviceType device_of(const DLTensor& tensor) {
  switch (tensor.device.type) {
    case kDLCPU:
    case kDLCUDAHost:
      return DeviceType::cpu;
    case kDLCUDA:
    case kDLCUDAManaged:
      return DeviceType::cuda;
    default:
      return DeviceType::other;
  }
}

class DLPackSource final : public TensorSource {
 public:
  explicit DLPackSource(const DLPackExchangeAPI& api) : api_(api) {}

  void read(PyObject* object, Tensor& tensor) const override {
    DLTensor dl{};
    if (api_.dltensor_from_py_object_no_sync(object, &dl) != 0) throw PythonErrorSet{};
    if (dl.ndim > kMaxDims) {
      throw Error(ErrorKind::value,
                  concat("has ", dl.ndim, " dimensions; it takes at most ", kMaxDims));
    }
    tensor.data = static_cast<char*>(dl.data) + dl.byte_offset;
    tensor.dtype = dtype_of(dl);
    tensor.device_type = device_of(dl);
    tensor.device_index = tensor.device_type == DeviceType::cpu ? 0 : dl.device.index;
    tensor.read_only = false;
    tensor.ndim = dl.ndim;
    int64_t compact = 1;
    for (int dim = dl.ndim - 1; dim >= 0; --dim) {
      tensor.shape[dim] = dl.shape[dim];
      tensor.strides[dim] = dl.strides != nullptr ? dl.strides[dim] : compact;
      compact *= dl.shape[dim];
    }
  }

  void* current_stream(int device) const override {
    void* stream = nullptr;
    if (api_.current_work_stream(kDLCUDA, device, &stream) != 0) throw PythonErrorSet{};
    return stream;
  }

 private:
  const DLPackExchangeAPI& api_;
};

}  // namespace

TensorSource* dlpack_source(PyObject* type) {
  constexpr const char* kCapsuleName = "dlpack_exchange_api";
  Ref capsule(PyObject_GetAttrString(type, "__dlpack_c_exchange_api__"));
  if (!capsule) {
    PyErr_Clear();
    return nullptr;
  }
  if (PyCapsule_IsValid(capsule.get(), kCapsuleName) == 0) return nullptr;
  // The table is static in the library that made it, and outlives the capsule.
  auto* header =
      static_cast<DLPackExchangeAPI::Header*>(PyCapsule_GetPointer(capsule.get(), kCapsuleName));
  while (header != nullptr && header->version.major > kDLPackMajor) header = header->older;
  if (header == nullptr || header->version.major != kDLPackMajor) return nullptr;
  auto* api = reinterpret_cast<DLPackExchangeAPI*>(header);
  if (api->dltensor_from_py_object_no_sync == nullptr) return nullptr;
  return new DLPackSource(*api);
}

}  // namespace vllm
