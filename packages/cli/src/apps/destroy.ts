import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { checkedAppName, missingApp } from '../session/app-session.ts'
import { connect } from '../session/connect.ts'
import { confirmByName } from '../terminal/ask.ts'

export function register(parent: Command, context: CliContext): void {
  const command = parent
    .command('destroy')
    .description('Destroy an app with its machines and secrets; asks for its name first')
    .argument('<name>', 'the app')
    .option('-y, --yes', 'do not ask')
  explained(command, {
    examples: ['roost apps destroy shop', 'roost apps destroy shop --yes'],
    json: '{name, destroyed: true}',
  })
  command.action(async (name: string, options: { json?: boolean; yes?: boolean }) => {
    const params = { app: checkedAppName(name) }
    const client = connect(context)
    try {
      await client.getApp({ params })
      const machines = (await client.listMachines({ params })).filter(
        ({ state }) => state !== 'destroyed',
      )
      const what = `Destroy ${name} with ${machines.length === 1 ? 'its machine' : `its ${machines.length} machines`} and all secrets`
      await confirmByName(context, name, what, options.yes ?? false)
      await client.deleteApp({ params, query: { force: 'true' } })
    } catch (error) {
      throw await missingApp(client, name, error)
    }
    if (options.json) return printJson(context, { name, destroyed: true })
    context.stdout.write(`App ${name} is destroyed.\n`)
  })
}
