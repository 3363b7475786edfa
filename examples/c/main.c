/* A classifier's last two steps in C, by kernels compiled ahead of time: y = softmax(relu(x @ w + bias)).
 * The result is checked against plain loops in double precision. `make run` builds and starts it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "linear.h"
#include "row_softmax.h"

enum { ROWS = 300, WIDTH = 211, CLASSES = 10 };

static float x[ROWS][WIDTH], w[WIDTH][CLASSES], w_transposed[CLASSES][WIDTH], bias[CLASSES];
static float hidden[ROWS][CLASSES], y[ROWS][CLASSES];

/* Numbers between -0.5 and 0.5, the same ones on every machine. */
static float number(void) {
  static uint32_t state = 12345;
  state = state * 1664525u + 1013904223u;
  return (float)(state >> 8) / (float)(1 << 24) - 0.5f;
}

static double largest_error(void) {
  double largest = 0;
  for (int i = 0; i < ROWS; ++i) {
    double e[CLASSES], total = 0;
    for (int j = 0; j < CLASSES; ++j) {
      double sum = bias[j];
      for (int k = 0; k < WIDTH; ++k) sum += (double)x[i][k] * w[k][j];
      total += e[j] = exp(sum > 0 ? sum : 0);
    }
    for (int j = 0; j < CLASSES; ++j) largest = fmax(largest, fabs(y[i][j] - e[j] / total));
  }
  return largest;
}

static void must(int32_t status, const char *message) {
  if (status == 0) return;
  fprintf(stderr, "%s (status %d)\n", message, (int)status);
  exit(1);
}

static int check(const char *what) {
  const double error = largest_error();
  printf("%-10s %-28s largest error %.1e\n", linear_isa(), what, error);
  return error < 1e-6;
}

int main(void) {
  for (int i = 0; i < ROWS; ++i)
    for (int k = 0; k < WIDTH; ++k) x[i][k] = number();
  for (int k = 0; k < WIDTH; ++k)
    for (int j = 0; j < CLASSES; ++j) w[k][j] = w_transposed[j][k] = number();
  for (int j = 0; j < CLASSES; ++j) bias[j] = number();
  int good = 1;

  /* Contiguous arrays need no strides. */
  const char *isas[] = {"avx512", "avx2", "neon", "baseline"};
  for (int i = 0; i < 4; ++i) {
    if (linear_set_isa(isas[i]) != LINEAR_OK) continue; /* another machine */
    int32_t status = linear_linear(x[0], NULL, w[0], NULL, bias, NULL, hidden[0], NULL, ROWS, WIDTH, CLASSES);
    must(status, linear_message(status));
    status = row_softmax_row_softmax(hidden[0], NULL, y[0], NULL, ROWS);
    must(status, row_softmax_message(status));
    good &= check("contiguous");
  }
  linear_set_isa(NULL);

  /* A transposed matrix: the library has a compilation for it (--layout w=0). */
  const int64_t transposed[] = {1, WIDTH};
  int32_t status =
      linear_linear(x[0], NULL, w_transposed[0], transposed, bias, NULL, hidden[0], NULL, ROWS, WIDTH, CLASSES);
  must(status, linear_message(status));
  /* Every second row, the others' results stay. Any strides work; one thread. */
  linear_set_threads(1);
  const int64_t hidden_rows[] = {2 * CLASSES, 1}, x_rows[] = {2 * WIDTH, 1};
  status = linear_linear(x[0], x_rows, w_transposed[0], transposed, bias, NULL, hidden[0], hidden_rows, ROWS / 2, WIDTH,
                         CLASSES);
  must(status, linear_message(status));
  status = row_softmax_row_softmax(hidden[0], NULL, y[0], NULL, ROWS);
  must(status, row_softmax_message(status));
  good &= check("strided, one thread");

  /* A wrong call says what is wrong. */
  status = linear_linear(x[0], NULL, NULL, NULL, bias, NULL, hidden[0], NULL, ROWS, WIDTH, CLASSES);
  good &= status == LINEAR_BAD_ARGUMENT;
  printf("%-10s %s\n", "refused:", linear_message(status));

  puts(good ? "all well" : "WRONG");
  return good ? 0 : 1;
}
