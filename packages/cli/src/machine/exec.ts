import { type Command, InvalidArgumentError } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { Ended } from '../failure/failure.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { runProgram } from '../ssh/run-program.ts'
import { wordsOf } from '../ssh/shell.ts'
import { checkedMachineId } from './machine-id.ts'

interface Options extends AppOptions {
  readonly container?: string
  readonly user?: string
  readonly timeout?: number
  readonly json?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('exec')
      .description('Run a command in a machine that runs; it ends with its exit code')
      .argument('<id>', 'the machine')
      .argument('<command...>', 'a command line in one word, or its words after --'),
  )
    .option('--container <name>', 'in this container of the machine')
    .option('-u, --user <name>', 'as this user of the image; else as the machine’s own program')
    .option('--timeout <seconds>', 'kill it after that, and print nothing before it ends', seconds)
  explained(command, {
    examples: [
      'roost machine exec 3d8d9014b51089 "ls -l /app"',
      'roost machine exec 3d8d9014b51089 -- sh -c "echo $HOSTNAME"',
      'roost machine exec 3d8d9014b51089 "psql shop" < dump.sql',
    ],
    json: '{exit_code, stdout, stderr, stdout_cut, stderr_cut}, the output cut after 1 MB; the exit code of roost is 0',
  })
  command.action((id: string, said: string[], options: Options) =>
    withApp(context, options, async ({ client, app }) => {
      const machine = checkedMachineId(id)
      const { container, user, timeout } = options
      const start = {
        command: wordsOf(said),
        ...(container === undefined ? {} : { container }),
        ...(user === undefined ? {} : { user }),
      }
      if (options.json !== true && timeout === undefined) {
        const code = await runProgram(context, { app, machine, start, terminal: false })
        if (code !== 0) throw new Ended(code)
        return
      }
      const answer = await client.execMachine(
        {
          params: { app, id: machine },
          body: { ...start, ...(timeout === undefined ? {} : { timeout }) },
        },
        { timeoutMs: ((timeout ?? EXEC_SECONDS) + SLACK_SECONDS) * 1000 },
      )
      const { exit_code, stdout, stderr, stdout_cut, stderr_cut } = answer
      if (options.json)
        return printJson(context, { exit_code, stdout, stderr, stdout_cut, stderr_cut })
      context.stdout.write(stdout)
      context.stderr.write(stderr)
      if (exit_code !== 0) throw new Ended(exit_code)
    }),
  )
}

const EXEC_SECONDS = 60
const SLACK_SECONDS = 40

function seconds(text: string): number {
  const value = Number(text)
  if (Number.isFinite(value) && value > 0 && value <= 900) return value
  throw new InvalidArgumentError('It is a number of seconds, at most 900.')
}
