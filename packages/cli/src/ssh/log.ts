import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { checkedMachineId } from '../machine/machine-id.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { sizeText } from '../terminal/size.ts'
import { harmless, styleOf } from '../terminal/style.ts'
import { tableText } from '../terminal/table.ts'

interface Options extends AppOptions {
  readonly machine?: string
  readonly lines: string
  readonly json?: boolean
}

const HEADINGS = ['BEGUN', 'TOKEN', 'MACHINE', 'WHAT', 'ENDED', 'IN', 'OUT']

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('log')
      .description('Who was in the machines of an app, when, and what ran there'),
  )
    .option('--machine <id>', 'only of one machine')
    .option('-n, --lines <number>', 'how many, the newest first', '50')
  explained(command, {
    examples: ['roost ssh log', 'roost ssh log --json | jq -r ".[].command"'],
    json: '[{id, machine, container, kind: "exec"|"program"|"proxy", token, token_id, user, command, terminal, begun_at, ended_at, exit_code, reason, bytes_in, bytes_out, connections}]',
  })
  command.action((options: Options) =>
    withApp(context, options, async ({ client, params }) => {
      const machine =
        options.machine === undefined ? {} : { machine: checkedMachineId(options.machine) }
      const query = { limit: options.lines, ...machine }
      const sessions = await client.listSessions({ params, query })
      if (options.json) return printJson(context, sessions)
      if (sessions.length === 0) {
        context.stdout.write('Nobody was in a machine yet.\n')
        return
      }
      const rows = sessions.map((session) => [
        session.begun_at.slice(0, 19),
        session.token,
        session.machine ?? '-',
        harmless(`${session.kind} ${session.command}`.slice(0, 60), context.stdout),
        session.ended_at === null
          ? styleOf(context, context.stdout).green('goes on')
          : session.exit_code === null
            ? (session.reason ?? '-').slice(0, 40)
            : `exit ${session.exit_code}`,
        sizeText(session.bytes_in),
        sizeText(session.bytes_out),
      ])
      context.stdout.write(`${tableText(HEADINGS, rows, context.stdout)}\n`)
    }),
  )
}
