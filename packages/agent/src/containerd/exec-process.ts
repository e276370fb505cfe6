import { PlatformError } from '@roost/base'
import type { ExecRequest, Terminal } from '../exec/exec-session.ts'
import { CAPABILITIES } from './spec.ts'
import type { ImageUser } from './user.ts'

/** What of a container's OCI spec a program beside it shares with it. */
export interface ContainerProcess {
  readonly user: { readonly uid: number; readonly gid: number }
  readonly env: readonly string[]
  readonly cwd: string
  readonly [other: string]: unknown
}

const COMMAND_BYTES_MAX = 120_000

/**
 * The process of an exec. Its specification comes into a file in clear, so the environment is read from `/.roost` by the shell,
 * as for the machine's own program. tini waits for what the program leaves behind (`-s`) and passes signals to its whole
 * group (`-g`), as a terminal would.
 */
export function execProcess(input: {
  readonly container: ContainerProcess
  readonly request: Pick<ExecRequest, 'command' | 'terminal'>
  /** Absent: whom the container's program runs as. */
  readonly user: ImageUser | null
  /** In `/.roost`: `env`, or one of its own for a user who may not read that. */
  readonly environmentName: string
  /** Its kernel has no subreapers: what the program leaves behind runs on until the machine ends. */
  readonly gvisor?: boolean
}): object {
  const { container, request, user, environmentName } = input
  const { terminal } = request
  const root = (user?.uid ?? container.user.uid) === 0
  return {
    ...container,
    terminal: terminal !== undefined,
    ...(user === null
      ? {}
      : { user: { uid: user.uid, gid: user.gid, additionalGids: user.additionalGids } }),
    args: [
      '/.roost/busybox',
      'sh',
      '-c',
      script(environmentName, terminal, input.gvisor ?? false),
      'sh',
      ...checkedCommand(request.command),
    ],
    env: [
      ...container.env.filter(
        (line) => !(user !== null && line.startsWith('HOME=')) && !line.startsWith('TERM='),
      ),
      ...(user === null ? [] : [`HOME=${user.home}`]),
      ...(terminal === undefined ? [] : [`TERM=${checkedType(terminal.type)}`]),
    ],
    capabilities: {
      bounding: CAPABILITIES,
      effective: root ? CAPABILITIES : [],
      permitted: root ? CAPABILITIES : [],
      inheritable: [],
      ambient: [],
    },
  }
}

/** The size is set before the program looks at it; containerd could only set it afterwards. */
function script(environmentName: string, terminal: Terminal | undefined, gvisor: boolean): string {
  const size =
    terminal === undefined
      ? ''
      : `/.roost/busybox stty rows ${checkedCount(terminal.rows)} cols ${checkedCount(terminal.columns)}; `
  // tini warns of what it can't do there, in what the program says.
  const tini = gvisor ? 'TINI_VERBOSITY=0 exec /.roost/tini -g' : 'exec /.roost/tini -s -g'
  return `${size}. /.roost/${environmentName}; unset PWD SHLVL; ${tini} -- "$@"`
}

function checkedCommand(command: readonly string[]): readonly string[] {
  if (command.length === 0 || command[0] === '')
    throw new PlatformError('invalid', 'command: it is empty')
  if (command.some((word) => word.includes('\0')))
    throw new PlatformError('invalid', 'command: contains a zero byte')
  const bytes = command.reduce((sum, word) => sum + Buffer.byteLength(word) + 1, 0)
  if (bytes > COMMAND_BYTES_MAX)
    throw new PlatformError('invalid', `command: longer than ${COMMAND_BYTES_MAX} bytes`)
  return command
}

function checkedCount(count: number): number {
  if (!Number.isInteger(count) || count < 0 || count > 10_000)
    throw new PlatformError('invalid', `terminal: ${count} rows or columns are impossible`)
  return count
}

function checkedType(type: string): string {
  if (!/^[\w.+-]{1,64}$/.test(type))
    throw new PlatformError('invalid', 'terminal: its type is not a name')
  return type
}
