import { systemClock } from '@roost/base'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption } from '../command-options.ts'
import { Failure } from '../failure/failure.ts'
import type { AppOptions, AppSession } from '../session/app-session.ts'
import { chooseMachine, type MachineChoice } from '../ssh/choose-machine.ts'
import { type MachineProgram, openProgram, type ProgramSession } from '../ssh/run-program.ts'
import { BUSYBOX } from '../ssh/shell.ts'

export interface RemoteOptions extends AppOptions, MachineChoice {
  readonly container?: string
  readonly user: string
}

export function remoteOptions(command: Command): Command {
  return appOption(command)
    .option('--machine <id>', 'of this machine; else of the first that runs')
    .option('-s, --select', 'pick the machine from a list')
    .option('--region <code>', 'of a machine of this region')
    .option('--container <name>', 'of this container of the machine')
    .option('-u, --user <name>', 'as this user of the image', 'root')
}

/** What runs is busybox, which every machine has: an image needs no programs for it. It only ever sees the machine's files. */
export async function remoteProgram(
  context: CliContext,
  { client, app }: AppSession,
  options: RemoteOptions,
  command: readonly string[],
): Promise<MachineProgram> {
  return {
    app,
    machine: await chooseMachine(context, client, app, options),
    start: {
      command: [BUSYBOX, ...command],
      user: options.user,
      ...(options.container === undefined ? {} : { container: options.container }),
    },
    terminal: false,
  }
}

/** Runs it, and ends with what it said where it fails. */
export async function withProgram(
  context: CliContext,
  program: MachineProgram,
  carry: (session: ProgramSession) => Promise<void>,
): Promise<void> {
  const session = await openProgram(context, program)
  const complaint = textOf(session).catch(() => '')
  const carried = carry(session)
  // Nobody reads any more: it would wait for ever. What it has to say itself comes at once.
  carried.catch(() => systemClock.sleep(LAST_WORDS_MS).then(() => session.close()))
  try {
    const code = await session.exit.catch(async (error: unknown) => {
      await carried
      throw error
    })
    const said = (await complaint).replace(/^(tar|ls|find|sh): /, '').trim()
    if (code !== 0) throw new Failure(said === '' ? `it ended with ${code} in the machine` : said)
    await carried
  } finally {
    session.close()
  }
}

const LAST_WORDS_MS = 1000
const COMPLAINT_CHARS_MAX = 2000

async function textOf({ stderr }: ProgramSession): Promise<string> {
  let text = ''
  for await (const bytes of stderr.bytes)
    if (text.length < COMPLAINT_CHARS_MAX) text += Buffer.from(bytes).toString('utf8')
  return text
}
