/* A CUDA driver that is older than any runtime Carousel is built with: built as libcuda.so.1, which the
   real CUDA runtime opens. It answers to what the runtime asks before it gives up. */

#include <string.h>

int cuInit(unsigned flags);
int cuDriverGetVersion(int* version);
int cuGetProcAddress_v2(const char* name, void** function, int version, unsigned long long flags,
                        void* status);

int cuInit(unsigned flags) {
    (void)flags;
    return 0;
}

int cuDriverGetVersion(int* version) {
    *version = 11040;
    return 0;
}

int cuGetProcAddress_v2(const char* name, void** function, int version, unsigned long long flags,
                        void* status) {
    (void)version;
    (void)flags;
    (void)status;
    *function = NULL;
    if (strcmp(name, "cuInit") == 0) *function = (void*)cuInit;
    if (strcmp(name, "cuDriverGetVersion") == 0) *function = (void*)cuDriverGetVersion;
    if (strcmp(name, "cuGetProcAddress") == 0) *function = (void*)cuGetProcAddress_v2;
    return *function == NULL ? 500 : 0; /* CUDA_ERROR_NOT_FOUND */
}
