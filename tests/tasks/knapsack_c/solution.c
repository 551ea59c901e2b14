#include <stdio.h>

/* Takes every item that still fits, in the order given. */
int main(void) {
    long n, capacity;
    if (scanf("%ld %ld", &n, &capacity) != 2) return 1;
    for (long i = 0; i < n; i++) {
        long value, weight;
        if (scanf("%ld %ld", &value, &weight) != 2) return 1;
        if (weight <= capacity) {
            capacity -= weight;
            printf("%ld\n", i);
        }
    }
    return 0;
}
