/* The bundle as constants of the binary. */
    .section .rodata
    .balign 16
    .globl winnow_programs, winnow_programs_end
winnow_programs:
    .incbin BUNDLE_FILE
winnow_programs_end:
    .section .note.GNU-stack, "", @progbits
