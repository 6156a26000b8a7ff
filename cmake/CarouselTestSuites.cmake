# Registers one ctest entry per GoogleTest suite of an executable, after each build of it.
#
# One process per suite rather than per test: thousands of small tests would spend their time in
# process start-up. Suites that differ only in an instantiation (`A/Suite`, `B/Suite`, `Suite/0`)
# share an entry. Labels: the folder of the suite's file under tests/, and what CAROUSEL_SUITE_LABELS,
# a list of `regex=label`, says of the suite's name.
#
#   carousel_discover_suites(<executable> [PROPERTIES <property> <value>...])
#
# PROPERTIES are ctest's, for every suite; no value may hold a space or a semicolon.
# Included by tests/CMakeLists.txt for that function, and run as a script after the build with
# EXECUTABLE, TEST_DIR, LABELS, PROPERTIES, OUTPUT.

if(NOT CMAKE_SCRIPT_MODE_FILE)
    set(CAROUSEL_TEST_SUITES_SCRIPT "${CMAKE_CURRENT_LIST_FILE}")
    set(CAROUSEL_TESTS_DIR "${CMAKE_CURRENT_SOURCE_DIR}")
    function(carousel_discover_suites target)
        cmake_parse_arguments(PARSE_ARGV 1 suites "" "" PROPERTIES)
        set(output "${CMAKE_CURRENT_BINARY_DIR}/${target}_suites.cmake")
        string(REPLACE ";" "," labels "${CAROUSEL_SUITE_LABELS}")
        string(REPLACE ";" " " properties "${suites_PROPERTIES}")
        add_custom_command(
            TARGET ${target} POST_BUILD
            COMMAND
                "${CMAKE_COMMAND}" -D "EXECUTABLE=$<TARGET_FILE:${target}>" -D
                "TEST_DIR=${CAROUSEL_TESTS_DIR}" -D "LABELS=${labels}" -D
                "PROPERTIES=${properties}" -D "OUTPUT=${output}" -P
                "${CAROUSEL_TEST_SUITES_SCRIPT}"
            BYPRODUCTS "${output}"
            COMMENT "Listing the suites of ${target}"
            VERBATIM)
        # ctest reads this; before the first build the missing executable shows as a failing test.
        set(include_file "${CMAKE_CURRENT_BINARY_DIR}/${target}_include.cmake")
        file(WRITE "${include_file}"
             "if(EXISTS \"${output}\")\n  include(\"${output}\")\nelse()\n"
             "  add_test(${target}_NOT_BUILT ${target}_NOT_BUILT)\nendif()\n")
        set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${include_file}")
    endfunction()
    return()
endif()

set(listing "${OUTPUT}.json")
execute_process(COMMAND "${EXECUTABLE}" --gtest_list_tests "--gtest_output=json:${listing}"
                OUTPUT_QUIET ERROR_VARIABLE error RESULT_VARIABLE result)
if(NOT result EQUAL 0)
    message(FATAL_ERROR "${EXECUTABLE} --gtest_list_tests failed (${result}): ${error}")
endif()

# A suite's name stands in the line after its opening brace, 6 spaces deep; its tests' files deeper.
file(STRINGS "${listing}" lines REGEX "^(      \"name\"|          \"file\"): ")
set(suites "")
foreach(line IN LISTS lines)
    if(line MATCHES "^      \"name\": \"([^\"]*)\"")
        string(REGEX REPLACE "\\\\/" "/" name "${CMAKE_MATCH_1}")
        string(REGEX REPLACE "/[0-9]+$" "" name "${name}")
        string(REGEX REPLACE "^.*/" "" suite "${name}")
        string(MAKE_C_IDENTIFIER "${suite}" key)
        list(APPEND suites "${suite}")
    elseif(line MATCHES "\"file\": \"(.*)\"")
        string(REGEX REPLACE "\\\\/" "/" file "${CMAKE_MATCH_1}")
        file(RELATIVE_PATH file "${TEST_DIR}" "${file}")
        get_filename_component(folder "${file}" DIRECTORY)
        set(folder_of_${key} "${folder}")
    endif()
endforeach()
list(REMOVE_DUPLICATES suites)

string(REPLACE "," ";" label_rules "${LABELS}")
set(script "")
foreach(suite IN LISTS suites)
    string(MAKE_C_IDENTIFIER "${suite}" key)
    set(labels "${folder_of_${key}}")
    foreach(rule IN LISTS label_rules)
        string(REGEX MATCH "^(.*)=(.*)$" rule "${rule}")
        set(label "${CMAKE_MATCH_2}")
        if(suite MATCHES "${CMAKE_MATCH_1}")
            list(APPEND labels "${label}")
        endif()
    endforeach()
    set(filter "${suite}.*:*/${suite}.*:${suite}/*.*:*/${suite}/*.*")
    string(APPEND script
           "add_test([==[${suite}]==] \"${EXECUTABLE}\" [==[--gtest_filter=${filter}]==] "
           "--gtest_brief=1)\n"
           "set_tests_properties([==[${suite}]==] PROPERTIES LABELS \"${labels}\" TIMEOUT 1800 "
           "SKIP_RETURN_CODE 77 ENVIRONMENT CAROUSEL_CTEST=1 ${PROPERTIES})\n")
endforeach()
file(WRITE "${OUTPUT}" "${script}")
