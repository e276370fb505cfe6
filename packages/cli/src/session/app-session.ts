import { type ApiClient, ApiError } from '@roost/api'
import type { CliContext } from '../cli-context.ts'
import { appNameIn, findConfig } from '../config/config-file.ts'
import { nearest } from '../config/reader.ts'
import { Failure, usage } from '../failure/failure.ts'
import { connect } from './connect.ts'

export interface AppOptions {
  readonly app?: string
  readonly config?: string
}

export interface AppSession {
  readonly client: ApiClient
  readonly app: string
  readonly params: { readonly app: string }
}

/** `-a`, then ROOST_APP, then FLY_APP, then fly.toml. */
export function appNameFor(
  context: Pick<CliContext, 'env' | 'cwd'>,
  options: AppOptions,
): string | null {
  const said = options.app ?? (context.env['ROOST_APP'] || context.env['FLY_APP'])
  if (said) return checkedAppName(said)
  const file = findConfig(context.cwd, options.config)
  const named = file === null ? null : appNameIn(file.content)
  return named === null ? null : checkedAppName(named)
}

/** Runs what needs an app. When there is no such app, says which one was meant. */
export async function withApp<T>(
  context: CliContext,
  options: AppOptions,
  run: (session: AppSession) => Promise<T>,
): Promise<T> {
  const app = appNameFor(context, options)
  if (app === null)
    throw usage('no app is named', [
      'add -a APP',
      'or run it in a folder with a fly.toml',
      'roost apps list',
    ])
  const client = connect(context)
  try {
    return await run({ client, app, params: { app } })
  } catch (error) {
    throw await missingApp(client, app, error)
  }
}

/** The same error, or a clearer one when it came from the app not being there. */
export async function missingApp(client: ApiClient, app: string, error: unknown): Promise<unknown> {
  if (!(error instanceof ApiError) || error.code !== 'not_found') return error
  const apps = await client.listApps().then(
    (list) => list.apps.map(({ name }) => name),
    () => null,
  )
  if (apps === null || apps.includes(app)) return error
  const near = nearest(app, apps, (name) => name)
  return new Failure(`there is no app "${app}"`, {
    why: near === null ? null : `there is "${near}"`,
    fix:
      near === null
        ? ['roost apps list', `roost apps create ${app}   # then roost deploy`]
        : `add -a ${near}`,
    cause: error,
  })
}

export function checkedAppName(name: string): string {
  if (/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(name)) return name
  throw usage(
    `"${name}" can't be the name of an app: lower-case letters, digits and dashes, at most 63, no dash at either end`,
  )
}
