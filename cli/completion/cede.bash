# bash completes cede by what the command's help says: its options, what they take, and
# what the command takes itself.  PID, FILE, FOLDER, program, experiment and a|b have a
# meaning here.

# Processes with memory of their own, by number or by the beginning of the name.
_cede_processes()
{
	local folder name

	for folder in /proc/[0-9]*; do
		[[ -e $folder/exe ]] || continue
		read -r name 2>/dev/null <"$folder/comm" || continue
		[[ ${folder#/proc/} == "$1"* || $name == "$1"* ]] && COMPREPLY+=("${folder#/proc/}")
	done
}

# Completes $2, which the help calls $1.
_cede_complete()
{
	local words

	case $1 in
	PID) _cede_processes "$2" ;;
	program)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -c -- "$2")
		;;
	*FILE*)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$2")
		;;
	FOLDER)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$2")
		;;
	experiment) words=$("$cede" lab --list 2>/dev/null | cut -d ' ' -f 1) ;;
	*'|'*) words=${1//|/ } ;;
	esac
	[[ $words ]] && mapfile -t COMPREPLY < <(compgen -W "$words" -- "$2")
}

# Fills `takes`, what each option in the help takes ("" nothing), and `usage`.
_cede_read()
{
	local line

	while IFS= read -r line; do
		if [[ $line =~ ^'  '(-.)?,?' '+(--[a-z-]+)([= ]([^ ]+))?'  ' ]]; then
			takes[${BASH_REMATCH[2]}]=${BASH_REMATCH[4]}
			[[ ${BASH_REMATCH[1]} ]] && takes[${BASH_REMATCH[1]}]=${BASH_REMATCH[4]}
		elif [[ $line == Usage:* ]]; then
			usage=${line#Usage: cede * }
		fi
	done < <(LC_ALL=C "$cede" "${COMP_WORDS[1]}" --help 2>/dev/null)
}

# Prints what stands in the usage where no option does; of several ways, of the last whose
# options are all on the line, or of the first.
_cede_argument()
{
	local way chosen word skip=

	set -f
	while IFS= read -r way; do
		for word in ${chosen:+$way}; do
			[[ $word != -* || " ${COMP_WORDS[*]} " == *" $word "* ]] || continue 2
		done
		chosen=$way
	done <<<"${usage// | /$'\n'}"
	for word in ${chosen//[][]/}; do
		case $skip$word in
		--*|-?) skip=${takes[$word]:+skip } ;;
		skip\ *|option|...) skip= ;;
		*) echo "$word"; return ;;
		esac
	done
}

# Where the program of cede run stands on the line, or would.
_cede_program()
{
	local i

	for ((i = 2; i < COMP_CWORD; i++)); do
		[[ ${COMP_WORDS[i]} == -* ]] || break
		[[ ${takes[${COMP_WORDS[i]}]} ]] || continue
		# bash cuts words at each =.
		[[ ${COMP_WORDS[++i]} == '=' ]] && ((i++))
		[[ ${COMP_WORDS[i + 1]} == '=' ]] && ((i += 2))
	done
	echo "$i"
}

_cede()
{
	local cede=$1 word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
	local usage argument place commands
	local -A takes=()

	COMPREPLY=()
	if [[ $COMP_CWORD == 1 || ($COMP_CWORD == 2 && $before == help) ]]; then
		commands=$("$cede" --help 2>/dev/null | sed -nE '/^  cede /d; s/^  ([a-z]+) .*/\1/p')
		((COMP_CWORD == 2)) || commands+=" help"
		[[ $word == -* ]] && commands="--help --version"
		mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word")
		return
	fi
	_cede_read
	if [[ $word == '=' ]]; then
		word=
	elif [[ $before == '=' ]]; then
		before=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	argument=$(_cede_argument)
	place=$COMP_CWORD
	[[ $argument == program ]] && place=$(_cede_program)
	if ((place < COMP_CWORD)); then
		if declare -F _command_offset >/dev/null; then
			_command_offset "$place"
		else
			compopt -o default
		fi
	elif [[ ${takes[$before]} ]]; then
		_cede_complete "${takes[$before]}" "$word"
	elif [[ $word == -* && $before != -- ]]; then
		mapfile -t COMPREPLY < <(compgen -W "${!takes[*]}" -- "$word")
	else
		_cede_complete "$argument" "$word"
	fi
}

complete -F _cede cede
