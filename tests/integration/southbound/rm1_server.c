/* A Modbus TCP server that is not ours: one RM1 (unit 1) and one RC1 (unit 201) on libmodbus.
 *
 * libmodbus does the framing, the exceptions and the register storage; this file only fills in the
 * registers and moves SAMPLE_COUNTER. Prints its port when ready. Usage: rm1_server
 */
#include <arpa/inet.h>
#include <errno.h>
#include <modbus/modbus.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static modbus_mapping_t *rm1, *rc1;

static void fill(void) {
    uint16_t *i = rm1->tab_input_registers, *h = rm1->tab_registers;
    memset(i, 0xFF, 35 * 2);
    i[0] = 0x524D; i[1] = 1; i[2] = 4; i[3] = 0; i[4] = 14800; i[5] = (uint16_t)-150;
    i[6] = 251; i[7] = 0x8000; i[8] = 0; i[9] = 0; i[10] = 0; i[11] = 7; i[12] = 0xFFFF; i[13] = (uint16_t)-1000;
    i[14] = 0; i[15] = 42; i[16] = 0; i[17] = 0;
    for (int k = 0; k < 4; k++) i[20 + k] = 3700 + k;
    memset(h, 0, 117 * 2);
    h[1] = 50;
    memcpy(h + 100, "TX-001\0\0\0\0\0\0\0\0\0\0", 16);
    for (int k = 100; k < 108; k++) h[k] = htons(h[k]);
    h[108] = 2; h[109] = 600; h[110] = 500; h[111] = 50; h[112] = 100;
    h[113] = 4350; h[114] = 2200; h[115] = 700; h[116] = 9200;
    i = rc1->tab_input_registers; h = rc1->tab_registers;
    memset(i, 0, 17 * 2);
    i[0] = 0x5243; i[1] = 1; i[3] = 148; i[5] = 4000; i[7] = 250; i[14] = 0xFFFF; i[15] = (uint16_t)-250;
    memset(h, 0, 117 * 2);
    h[1] = 50; h[6] = 600; h[108] = 120; h[109] = 172; h[110] = 600; h[111] = 40; h[112] = 5;
}

static void live(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint16_t sample = (uint16_t)(now.tv_sec * 4 + now.tv_nsec / 250000000);
    rm1->tab_input_registers[16] = sample;
    rc1->tab_input_registers[13] = sample;
    rm1->tab_input_registers[3] = rm1->tab_registers[3] ? 1 : 0;
    rm1->tab_input_registers[17] = rm1->tab_registers[3] ? 10000 : 0;
    rm1->tab_input_registers[9] = rm1->tab_registers[0];
    rc1->tab_input_registers[8] = rc1->tab_registers[0];
}

int main(void) {
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", 0);
    rm1 = modbus_mapping_new(0, 0, 117, 35);
    rc1 = modbus_mapping_new(0, 0, 117, 17);
    if (!ctx || !rm1 || !rc1) return 1;
    fill();
    int server = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = 0};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    if (bind(server, (struct sockaddr *)&at, sizeof at) || listen(server, 16)) return 1;
    getsockname(server, (struct sockaddr *)&at, &size);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    fd_set all, ready;
    FD_ZERO(&all);
    FD_SET(server, &all);
    int top = server;
    for (;;) {
        ready = all;
        if (select(top + 1, &ready, NULL, NULL, NULL) < 0) return 1;
        for (int fd = 0; fd <= top; fd++) {
            if (!FD_ISSET(fd, &ready)) continue;
            if (fd == server) {
                int peer = accept(server, NULL, NULL);
                if (peer >= 0) { FD_SET(peer, &all); if (peer > top) top = peer; }
                continue;
            }
            uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
            modbus_set_socket(ctx, fd);
            int length = modbus_receive(ctx, query);
            if (length > 0) {
                live();
                modbus_reply(ctx, query, length, query[6] == 201 ? rc1 : rm1);
            } else if (length < 0) {
                close(fd);
                FD_CLR(fd, &all);
            }
        }
    }
}
