import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained } from '../command-options.ts'
import { Ended, usage } from '../failure/failure.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { chooseMachine, type MachineChoice } from './choose-machine.ts'
import { runProgram } from './run-program.ts'
import { SHELL, wordsOf } from './shell.ts'

interface Options extends AppOptions, MachineChoice {
  readonly container?: string
  readonly command?: string
  readonly pty?: boolean
  readonly user: string
}

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('console')
      .description('A shell in a machine that runs, or a command; it ends with its exit code'),
  )
    .option('--machine <id>', 'in this machine; else in the first that runs')
    .option('-s, --select', 'pick the machine from a list')
    .option('-r, --region <code>', 'in a machine of this region')
    .option('--container <name>', 'in this container of the machine')
    .option('-C, --command <command>', 'run this instead of a shell')
    .option('--pty', 'a terminal also for a command')
    .option('-u, --user <name>', 'as this user of the image', 'root')
  explained(command, {
    examples: [
      'roost ssh console',
      'roost ssh console -s',
      'roost ssh console -C "ls -l /app"',
      'roost ssh console --machine 3d8d9014b51089 -C "psql" --pty',
      'cat dump.sql | roost ssh console -C "psql shop"',
    ],
  })
  command.action((options: Options) =>
    withApp(context, options, async ({ client, app }) => {
      const isTerminal = context.stdin.isTTY === true && context.stdout.isTTY === true
      if (options.pty && !isTerminal) throw usage('--pty needs a terminal')
      const machine = await chooseMachine(context, client, app, options)
      const code = await runProgram(context, {
        app,
        machine,
        start: {
          command: options.command === undefined ? [...SHELL] : wordsOf([options.command]),
          user: options.user,
          ...(options.container === undefined ? {} : { container: options.container }),
        },
        terminal: isTerminal && (options.command === undefined || options.pty === true),
      })
      if (code !== 0) throw new Ended(code)
    }),
  )
}
