import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { type AppOptions, withApp } from '../session/app-session.ts'
import { checkedMachineId } from './machine-id.ts'

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('kill')
      .description(
        'Send a signal to the programs of machines. What ends by it starts again as its restart policy says: machine stop is for good',
      )
      .argument('<id...>', 'machines'),
  ).option('-s, --signal <name>', 'SIGTERM, HUP, 10 …', 'SIGKILL')
  explained(command, {
    examples: [
      'roost machine kill 3d8d9014b51089 -a shop',
      'roost machine kill 3d8d9014b51089 -s HUP',
    ],
    json: '[{id, signal}]',
  })
  command.action((ids: string[], options: AppOptions & { signal: string; json?: boolean }) =>
    withApp(context, options, async ({ client, params }) => {
      const signal = /^\d+$/.test(options.signal)
        ? options.signal
        : `SIG${options.signal.toUpperCase().replace(/^SIG/, '')}`
      const checked = [...new Set(ids.map(checkedMachineId))]
      for (const id of checked) {
        await client.signalMachine({ params: { ...params, id }, body: { signal } })
        if (!options.json) context.stdout.write(`${id} got ${signal}\n`)
      }
      if (options.json)
        printJson(
          context,
          checked.map((id) => ({ id, signal })),
        )
    }),
  )
}
