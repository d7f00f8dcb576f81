# fish completes cede by what the command's help says: its options, what they take, and
# what the command takes itself.  PID, FILE, FOLDER, program, experiment and a|b have a
# meaning here.

function __fish_cede_is
    set -l words (commandline -opc)
    test "$words[2]" = $argv[1]
end

# Prints how `complete` is told what the help calls $argv[1].
function __fish_cede_action
    switch $argv[1]
        case PID
            printf '%s\n' -xa '(__fish_complete_pids)'
        case '*FILE*'
            printf '%s\n' -rF
        case FOLDER
            printf '%s\n' -xa '(__fish_complete_directories (commandline -ct))'
        case experiment
            printf '%s\n' -xa '(cede lab --list | string split -f 1 " ")'
        case '*|*'
            printf '%s\n' -xa (string replace -a '|' ' ' -- $argv[1])
        case '*'
            echo -x
    end
end

# Completes what stands behind the options of cede run; $argv are those that take a word.
function __fish_cede_program
    set -l words (commandline -opc)[3..]
    while string match -q -- '-*' $words[1]
        contains -- $words[1] $argv; and set -e words[1]
        set -e words[1]
    end
    complete -C "$words $(commandline -ct)"
end

command -q cede; or return
set -l option_form (string join '' '^  (?:-(?<letter>.), |    )--(?<long>[a-z-]+)' \
    '(?:[= ](?<takes>\S+))?  +(?<about>.*)')
complete -c cede -f
complete -c cede -n __fish_is_first_token -l help -d 'tell what there is'
complete -c cede -n __fish_is_first_token -l version -d 'tell the version'
complete -c cede -n __fish_is_first_token -a help -d 'tell about a command'
for line in (cede --help | string match -rg '^  (?!cede )([a-z]+ .*)')
    set -l name (string split -f 1 ' ' -- $line)
    set -l is "__fish_cede_is $name"
    set -l valued
    complete -c cede -n '__fish_is_first_token; or __fish_cede_is help' -a $name \
        -d (string replace -r '^\S+ +' '' -- $line)
    # An option and the lines that go on with its description.
    set -l help (string split \n\n -- (LC_ALL=C cede $name --help | string collect))[1]
    for entry in (string replace -ra '\n {7,}(?!-)' ' ' -- $help | string split \n)
        string match -rq $option_form -- $entry; or continue
        set -l letter (test -n "$letter"; and printf '%s\n' -s $letter)
        set -l action (test -n "$takes"; and __fish_cede_action $takes)
        test -n "$takes"; and set -a valued --$long (test -n "$letter"; and printf '%s\n' -$letter)
        complete -c cede -n $is -l $long $letter $action -d $about
    end
    # What stands in the usage where no option does: of the first way, and of others whose
    # options are all on the line.
    set -l usage (string split -f 1 \n -- $help | string replace "Usage: cede $name " '')
    set -l ways (string split ' | ' -- $usage)
    for way in $ways
        set -l when $is
        if test $way != $ways[1]
            for option in (string split ' ' -- $way | string match -- '-*')
                set when "$when; and contains -- $option (commandline -opc)"
            end
        end
        set -l words (string replace -ra '[][]' '' -- $way | string split ' ')
        set -l skip no
        for word in $words
            if test $skip = yes; or contains -- $word option ...
                set skip no
            else if string match -q -- '-*' $word
                contains -- $word $valued; and set skip yes
            else if test $word = program
                complete -c cede -n $when -xa "(__fish_cede_program $valued)"
                break
            else
                complete -c cede -n $when (__fish_cede_action $word)
                break
            end
        end
    end
end
