// The part of TensorFlow's C API that inceptor calls, as a table that dlsym
// fills at run time. So building needs neither TensorFlow's headers nor its
// library. The declarations follow tensorflow/c/c_api.h, tf_tensor.h,
// tf_status.h, tf_buffer.h and tf_tstring.h of TensorFlow 2.21.
#ifndef INCEPTOR_CTF_API_H
#define INCEPTOR_CTF_API_H

#include <stddef.h>
#include <stdint.h>

typedef struct TF_Status TF_Status;
typedef struct TF_Tensor TF_Tensor;
typedef struct TF_Graph TF_Graph;
typedef struct TF_Operation TF_Operation;
typedef struct TF_Session TF_Session;
typedef struct TF_SessionOptions TF_SessionOptions;
typedef struct TF_ImportGraphDefOptions TF_ImportGraphDefOptions;
typedef struct TF_DeviceList TF_DeviceList;

typedef struct TF_Buffer {
  const void* data;
  size_t length;
  void (*data_deallocator)(void* data, size_t length);
} TF_Buffer;

typedef struct TF_Output {
  TF_Operation* oper;
  int index;
} TF_Output;

// An element of a string tensor. Only its size matters here, because only the
// TF_String functions access it.
typedef struct TF_TString {
  uint64_t opaque[3];
} TF_TString;

// X(result, name without TF_, parameters, arguments)
#define CTF_FUNCTIONS(X)                                                       \
  X(const char*, Version, (void), ())                                          \
  X(TF_Status*, NewStatus, (void), ())                                         \
  X(void, DeleteStatus, (TF_Status * s), (s))                                  \
  X(int, GetCode, (const TF_Status* s), (s))                                   \
  X(const char*, Message, (const TF_Status* s), (s))                           \
  X(TF_Buffer*, NewBuffer, (void), ())                                         \
  X(void, DeleteBuffer, (TF_Buffer * b), (b))                                  \
  X(TF_Buffer*, GetAllOpList, (void), ())                                      \
  X(TF_Buffer*, GetRegisteredKernelsForOp, (const char* op, TF_Status* s),     \
    (op, s))                                                                   \
  X(TF_Tensor*, AllocateTensor,                                                \
    (int dtype, const int64_t* dims, int rank, size_t n),                      \
    (dtype, dims, rank, n))                                                    \
  X(void, DeleteTensor, (TF_Tensor * t), (t))                                  \
  X(int, TensorType, (const TF_Tensor* t), (t))                                \
  X(int, NumDims, (const TF_Tensor* t), (t))                                   \
  X(int64_t, Dim, (const TF_Tensor* t, int i), (t, i))                         \
  X(size_t, TensorByteSize, (const TF_Tensor* t), (t))                         \
  X(void*, TensorData, (const TF_Tensor* t), (t))                              \
  X(void, StringInit, (TF_TString * s), (s))                                   \
  X(void, StringCopy, (TF_TString * s, const char* p, size_t n), (s, p, n))    \
  X(const char*, StringGetDataPointer, (const TF_TString* s), (s))             \
  X(size_t, StringGetSize, (const TF_TString* s), (s))                         \
  X(TF_Graph*, NewGraph, (void), ())                                           \
  X(void, DeleteGraph, (TF_Graph * g), (g))                                    \
  X(TF_Operation*, GraphOperationByName, (TF_Graph * g, const char* name),     \
    (g, name))                                                                 \
  X(int, OperationNumOutputs, (TF_Operation * o), (o))                         \
  X(int, GraphGetTensorNumDims, (TF_Graph * g, TF_Output o, TF_Status* s),     \
    (g, o, s))                                                                 \
  X(void, GraphGetTensorShape,                                                 \
    (TF_Graph * g, TF_Output o, int64_t* dims, int rank, TF_Status* s),        \
    (g, o, dims, rank, s))                                                     \
  X(TF_ImportGraphDefOptions*, NewImportGraphDefOptions, (void), ())           \
  X(void, DeleteImportGraphDefOptions, (TF_ImportGraphDefOptions * o), (o))    \
  X(void, GraphImportGraphDef,                                                 \
    (TF_Graph * g, const TF_Buffer* def, const TF_ImportGraphDefOptions* o,    \
     TF_Status* s),                                                            \
    (g, def, o, s))                                                            \
  X(TF_SessionOptions*, NewSessionOptions, (void), ())                         \
  X(void, DeleteSessionOptions, (TF_SessionOptions * o), (o))                  \
  X(void, SetConfig,                                                           \
    (TF_SessionOptions * o, const void* proto, size_t n, TF_Status* s),        \
    (o, proto, n, s))                                                          \
  X(TF_Session*, NewSession,                                                   \
    (TF_Graph * g, const TF_SessionOptions* o, TF_Status* s), (g, o, s))       \
  X(TF_Session*, LoadSessionFromSavedModel,                                    \
    (const TF_SessionOptions* o, const TF_Buffer* run_options,                 \
     const char* dir, const char* const* tags, int ntags, TF_Graph* g,         \
     TF_Buffer* meta_graph, TF_Status* s),                                     \
    (o, run_options, dir, tags, ntags, g, meta_graph, s))                      \
  X(TF_DeviceList*, SessionListDevices, (TF_Session * x, TF_Status * s),       \
    (x, s))                                                                    \
  X(void, DeleteDeviceList, (TF_DeviceList * l), (l))                          \
  X(int, DeviceListCount, (const TF_DeviceList* l), (l))                       \
  X(const char*, DeviceListType,                                               \
    (const TF_DeviceList* l, int i, TF_Status* s), (l, i, s))                  \
  X(void, CloseSession, (TF_Session * x, TF_Status * s), (x, s))               \
  X(void, DeleteSession, (TF_Session * x, TF_Status * s), (x, s))              \
  X(void, SessionRun,                                                          \
    (TF_Session * x, const TF_Buffer* run_options, const TF_Output* inputs,    \
     TF_Tensor* const* values, int ninputs, const TF_Output* outputs,          \
     TF_Tensor** results, int noutputs, const TF_Operation* const* targets,    \
     int ntargets, TF_Buffer* run_metadata, TF_Status* s),                     \
    (x, run_options, inputs, values, ninputs, outputs, results, noutputs,      \
     targets, ntargets, run_metadata, s))

struct ctf_table {
#define X(result, name, parameters, arguments) result(*name) parameters;
  CTF_FUNCTIONS(X)
#undef X
};
extern struct ctf_table ctf_table;

// Each function has its upstream name: C.TF_SessionRun in Go is TF_SessionRun
// in TensorFlow's documentation.
#define X(result, name, parameters, arguments) \
  static inline result TF_##name parameters { return ctf_table.name arguments; }
CTF_FUNCTIONS(X)
#undef X

// Opens the library and fills the table. Returns NULL, or an error message that
// the caller frees.
char* ctf_open(const char* path);

// Makes signals for a fault (SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE) add one
// at count before they are handled as before. If that handler returns, the one
// is subtracted again. The count must stay mapped for ever. NULL stops this.
void ctf_count_crashes(uint32_t* count);

// Returns free heap pages to the system.
void ctf_trim(void);

#endif
