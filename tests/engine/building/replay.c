// Runs a function of a kernel's library on memory that was written down, and writes down what it has become.
//   replay LIBRARY FUNCTION BEFORE AFTER
// BEFORE: fields of the call, pointers among them, regions; then for each field its value, and for each region its
// address, its size and its bytes; all numbers of eight bytes. AFTER: the bytes of all regions, in the same order.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

// A call for one thread needs none of them, but the loader wants to find them.
void GOMP_parallel(void (*work)(void*), void* data, unsigned threads, unsigned flags) { abort(); }
void GOMP_barrier(void) { abort(); }
int omp_get_thread_num(void) { return 0; }
int omp_get_num_threads(void) { return 1; }

static int64_t number(FILE* stream) {
  int64_t value;
  if (fread(&value, 8, 1, stream) != 1) exit(3);
  return value;
}

int main(int count, char** words) {
  if (count != 5) return 2;
  FILE* before = fopen(words[3], "rb");
  const int64_t fields = number(before), pointers = number(before), regions = number(before);
  int64_t* call = malloc(8 * fields);
  int64_t *address = malloc(8 * regions), *size = malloc(8 * regions);
  char** here = malloc(8 * regions);
  for (int64_t i = 0; i < fields; i++) call[i] = number(before);
  for (int64_t i = 0; i < regions; i++) {
    address[i] = number(before), size[i] = number(before), here[i] = malloc(size[i]);
    if ((int64_t)fread(here[i], 1, size[i], before) != size[i]) return 3;
  }
  for (int64_t i = 0; i < pointers; i++)
    for (int64_t r = 0; r < regions; r++)
      if (call[i] >= address[r] && call[i] < address[r] + size[r]) {
        call[i] = (int64_t)(here[r] + (call[i] - address[r]));
        break;
      }
  void* library = dlopen(words[1], RTLD_NOW);
  if (!library) return fprintf(stderr, "%s\n", dlerror()), 4;
  void (*function)(void*) = (void (*)(void*))dlsym(library, words[2]);
  if (!function) return 5;
  function(call);
  FILE* after = fopen(words[4], "wb");
  for (int64_t r = 0; r < regions; r++) fwrite(here[r], 1, size[r], after);
  return fclose(after);
}
