// SPDX-License-Identifier: MIT
// expect: error
int main() {}
