import type { Command } from 'commander'
import type { CliContext } from '../cli-context.ts'
import { appOption, explained, printJson } from '../command-options.ts'
import { usage } from '../failure/failure.ts'
import { type AppOptions, appNameFor, missingApp } from '../session/app-session.ts'
import { connect } from '../session/connect.ts'
import { expirySeconds } from './expiry.ts'

const KINDS = ['admin', 'deploy', 'readonly'] as const
type Kind = (typeof KINDS)[number]

interface Options extends AppOptions {
  readonly name?: string
  readonly expiry?: string
  readonly json?: boolean
}

export function register(parent: Command, context: CliContext): void {
  const command = appOption(
    parent
      .command('create')
      .description(
        'Make a token. It is shown once, alone on standard output; nobody can see it again',
      )
      .argument(
        '<kind>',
        'deploy (one app: build, release, secrets, machines), readonly (all apps, or one with -a), admin (everything)',
      ),
  )
    .option('-n, --name <name>', 'what to call it in the list; default: its kind and app')
    .option('-x, --expiry <time>', 'how long it lives: 720h, 30d, never; default: 90 days')
  explained(command, {
    examples: [
      'roost tokens create deploy -a shop --name ci --expiry 720h',
      'roost tokens create readonly --expiry 1d',
      'ROOST_API_TOKEN=$(roost tokens create deploy) roost deploy',
    ],
    json: '{token, id, kind, name, apps: [name] | null (all), state, created_at, created_by, parent, expires_at, last_used_at, revoked_at}',
  })
  command.action(async (said: string, options: Options) => {
    const kind = checkedKind(said)
    const app = appFor(context, kind, options)
    const client = connect(context)
    const body = {
      kind,
      ...(app === null ? {} : { app }),
      ...(options.name === undefined ? {} : { name: options.name }),
      ...(options.expiry === undefined ? {} : { expires_in: expirySeconds(options.expiry) }),
    }
    const made = await client.createToken({ body }).catch(async (error: unknown) => {
      throw app === null ? error : await missingApp(client, app, error)
    })
    if (options.json) return printJson(context, made)
    context.stdout.write(`${made.token}\n`)
    const what = made.apps === null ? 'all apps' : made.apps.join(', ')
    const until = made.expires_at === null ? 'for ever' : `until ${made.expires_at}`
    context.stderr.write(
      `A ${made.kind} token "${made.name}" (${made.id}) for ${what}, ${until}. It is not shown again.\n`,
    )
  })
}

function checkedKind(said: string): Kind {
  const kind = KINDS.find((one) => one === said)
  if (kind !== undefined) return kind
  throw usage(`"${said}" is no kind of token: there is ${KINDS.join(', ')}`, [
    'roost tokens create deploy -a APP',
  ])
}

/** A deploy token is for the app of the folder too; what reads or rules everything is so unless `-a` is typed. */
function appFor(context: CliContext, kind: Kind, options: Options): string | null {
  if (kind === 'deploy') {
    const app = appNameFor(context, options)
    if (app !== null) return app
    throw usage('a deploy token is for one app, and none is named', 'add -a APP')
  }
  if (options.app === undefined && options.config === undefined) return null
  if (kind === 'admin') throw usage('an administrator token is for everything: leave out -a')
  return appNameFor(context, options)
}
