// A stand-in for the CUDA driver: one GPU, whose numbers the environment gives, that loads and
// launches as the driver would, or refuses. It runs nothing; STAND_IN_LOG gets a line for each
// launch.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID_VALUE = 1, NO_BINARY = 209, UNSUPPORTED_PTX = 222, NOT_FOUND = 500 };

static int number(const char* name) {
  const char* text = getenv(name);
  return text ? atoi(text) : 0;
}
static int major(void) { return number("STAND_IN_MAJOR"); }
static int minor(void) { return number("STAND_IN_MINOR"); }
static int block_bytes(void) { return number("STAND_IN_BLOCK_KIB") * 1024; }

static void note(const char* format, ...) {
  const char* path = getenv("STAND_IN_LOG");
  if (!path) return;
  FILE* log = fopen(path, "a");
  va_list arguments;
  va_start(arguments, format);
  vfprintf(log, format, arguments);
  va_end(arguments);
  fclose(log);
}

int cuInit(unsigned flags) { return OK; }
int cuDriverGetVersion(int* version) {
  *version = number("STAND_IN_DRIVER");
  return OK;
}
int cuDeviceGetCount(int* count) {
  *count = 1;
  return OK;
}
int cuDeviceGet(int* device, int index) {
  *device = index;
  return OK;
}
int cuDeviceGetName(char* name, int size, int device) {
  snprintf(name, size, "G");
  return OK;
}
// Attributes by their numbers in cuda.h; what nobody asks is not there.
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  switch (attribute) {
    case 16: *value = number("STAND_IN_PROCESSORS"); return OK;
    case 75: *value = major(); return OK;
    case 76: *value = minor(); return OK;
    case 81: *value = number("STAND_IN_PROCESSOR_KIB") * 1024; return OK;
    case 97: *value = block_bytes(); return OK;
  }
  return INVALID_VALUE;
}

static void* context = (void*)16;
int cuDevicePrimaryCtxRetain(void** retained, int device) {
  *retained = context;
  return OK;
}
int cuCtxGetCurrent(void** current) {
  *current = context;
  return OK;
}
int cuCtxPushCurrent_v2(void* pushed) { return OK; }
int cuCtxPopCurrent_v2(void** popped) { return OK; }
int cuThreadExchangeStreamCaptureMode(int* mode) { return OK; }

// A cubin by its ELF header, as ci/audit/device_code.py reads it: the same major, no later minor,
// and one with the suffix `a` on its own GPU alone. (From CUDA 13 on no bit tells.)
static int takes_cubin(const unsigned char* image) {
  unsigned flags;
  memcpy(&flags, image + 48, sizeof flags);
  const int newer = image[7] == 65;
  const int arch = newer ? flags >> 8 & 0xff : flags & 0xff;
  const int exact = newer ? flags & 8 : flags & 1 << 11;
  if (arch / 10 != major()) return 0;
  return exact ? arch % 10 == minor() : arch % 10 <= minor();
}

// PTX by its target, and by its version: 8.1 came with CUDA 12.1, 8.8 with 12.9, 9.0 with 13.0, 7.8
// with 11.8.
static int takes_ptx(const char* image, int* result) {
  int version_major, version_minor, target;
  const char* line = strstr(image, ".version ");
  sscanf(line, ".version %d.%d", &version_major, &version_minor);
  sscanf(strstr(image, ".target "), ".target sm_%d", &target);
  const int cuda = version_major == 7 ? 11000 + 10 * version_minor
                                      : (version_major + 4) * 1000 +
                                            10 * (version_minor > 5 ? version_minor + 1
                                                                    : version_minor);
  if (cuda > number("STAND_IN_DRIVER")) *result = UNSUPPORTED_PTX;
  return *result == OK && target <= 10 * major() + minor();
}

int cuModuleLoadDataEx(void** module, const void* image, unsigned options, int* keys,
                       void** values) {
  int result = OK;
  const int elf = memcmp(image, "\177ELF", 4) == 0;
  if (!(elf ? takes_cubin(image) : takes_ptx(image, &result))) return result ? result : NO_BINARY;
  *module = (void*)image;
  return OK;
}
struct Function {
  char name[100];
  int shared;  // what a block of it may have
};
int cuModuleGetFunction(struct Function** function, void* module, const char* name) {
  *function = malloc(sizeof **function);
  snprintf((*function)->name, sizeof (*function)->name, "%s", name);
  (*function)->shared = 48 * 1024;
  return OK;
}
int cuFuncSetAttribute(struct Function* function, int attribute, int value) {
  if (attribute != 8 || value > block_bytes()) return INVALID_VALUE;
  function->shared = value;
  return OK;
}
static int launch(struct Function* function, unsigned shared, const char* how) {
  if ((int)shared > function->shared || (int)shared > block_bytes()) return INVALID_VALUE;
  note("%s %u %s\n", function->name, shared, how);
  return OK;
}
int cuLaunchKernel(struct Function* function, unsigned x, unsigned y, unsigned z, unsigned tx,
                   unsigned ty, unsigned tz, unsigned shared, void* stream, void** params,
                   void** extra) {
  return launch(function, shared, "plain");
}
struct Config {
  unsigned grid[3], block[3], shared;
};
int cuLaunchKernelEx(const struct Config* config, struct Function* function, void** params,
                     void** extra) {
  return launch(function, config->shared, "extended");
}
int cuTensorMapEncodeTiled() { return OK; }

int cuGetErrorName(int result, const char** name) {
  *name = result == NO_BINARY         ? "CUDA_ERROR_NO_BINARY_FOR_GPU"
          : result == UNSUPPORTED_PTX ? "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"
                                      : "CUDA_ERROR_INVALID_VALUE";
  return OK;
}
int cuGetErrorString(int result, const char** text) {
  *text = "as the stand-in says";
  return OK;
}

// Memory: there is none here.
enum { UNKNOWN = 999 };
int cuMemAlloc_v2() { return UNKNOWN; }
int cuMemFree_v2() { return UNKNOWN; }
int cuMemsetD8_v2() { return UNKNOWN; }
int cuIpcGetMemHandle() { return UNKNOWN; }
int cuIpcOpenMemHandle_v2() { return UNKNOWN; }
int cuIpcCloseMemHandle() { return UNKNOWN; }
int cuCtxSynchronize() { return UNKNOWN; }
int cuPointerGetAttribute() { return UNKNOWN; }
