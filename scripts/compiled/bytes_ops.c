/* Found before mypyc's runtime file of the same name, which it includes: mypyc 2.4 makes a SystemError of a slice of
   bytes whose end lies before its start, where Python makes an empty one. */
#define CPyBytes_GetSlice CPyBytes_GetSliceForward
#include_next <bytes_ops.c>
#undef CPyBytes_GetSlice

PyObject *CPyBytes_GetSlice(PyObject *obj, CPyTagged start, CPyTagged end) {
    if (CPyTagged_CheckShort(start) && CPyTagged_CheckShort(end)) {
        Py_ssize_t length = ((PyVarObject *)obj)->ob_size;
        Py_ssize_t first = CPyTagged_ShortAsSsize_t(start);
        Py_ssize_t last = CPyTagged_ShortAsSsize_t(end);
        if (first < 0)
            first = first + length < 0 ? 0 : first + length;
        if (last < 0)
            last = last + length < 0 ? 0 : last + length;
        if (first > length)
            first = length;
        if (last < first)
            end = start;
    }
    return CPyBytes_GetSliceForward(obj, start, end);
}
