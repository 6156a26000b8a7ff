# Fails unless README.md holds, word for word, what stands between the marks of SOURCE.
#
#   cmake -D README=README.md -D SOURCE=examples/first_layer.cpp -P check_readme.cmake

file(READ "${README}" readme)
file(READ "${SOURCE}" source)
string(FIND "${source}" "// example-begin\n" begin)
string(FIND "${source}" "// example-end" end)
if(begin EQUAL -1 OR end LESS begin)
    message(FATAL_ERROR "${SOURCE} has no lines '// example-begin' and '// example-end'")
endif()
string(LENGTH "// example-begin\n" mark)
math(EXPR begin "${begin} + ${mark}")
math(EXPR length "${end} - ${begin}")
string(SUBSTRING "${source}" ${begin} ${length} example)
string(FIND "${readme}" "```cpp\n${example}```" at)
if(at EQUAL -1)
    message(FATAL_ERROR "README.md does not show ${SOURCE} as it is: copy what stands between its "
                        "marks into the block that begins with ```cpp")
endif()
