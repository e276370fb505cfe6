import { ApiError } from '@roost/api'
import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { explained, printJson } from '../command-options.ts'
import { Failure } from '../failure/failure.ts'
import { checkedAppName } from '../session/app-session.ts'
import { connect } from '../session/connect.ts'

export function register(parent: Command, context: CliContext): void {
  const command = parent
    .command('create')
    .description('Reserve a name for an app; roost deploy fills it')
    .argument('<name>', 'lower-case letters, digits and dashes, at most 63')
  explained(command, {
    examples: ['roost apps create shop', 'roost deploy -a shop --regions ams,iad'],
    json: '{name, status}',
  })
  command.action(async (name: string, options: { json?: boolean }) => {
    const body = { app_name: checkedAppName(name), org_slug: 'personal' }
    const app = await connect(context)
      .createApp({ body })
      .catch((error: unknown) => {
        if (!(error instanceof ApiError) || error.code !== 'name_taken') throw error
        throw new Failure(`the name "${name}" is taken`, {
          fix: [`roost status -a ${name}   # if it is yours`, 'or choose another one'],
          cause: error,
        })
      })
    if (options.json) return printJson(context, { name: app.name, status: app.status })
    context.stdout.write(`App ${app.name} is created. Deploy to it: roost deploy -a ${app.name}\n`)
  })
}
