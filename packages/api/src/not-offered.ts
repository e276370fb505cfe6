/**
 * Resources of the Machines API that Roost does not have: every path below is answered with `not_offered` and this text, so that
 * no client takes "there is none" for "there is no such thing here". Paths are Fastify's.
 */
export const NOT_OFFERED: readonly { readonly path: string; readonly why: string }[] = [
  {
    path: '/v1/apps/:app/volumes',
    why: 'there are no volumes that outlive a machine yet: containers of one machine share files by config.volumes',
  },
  {
    path: '/v1/apps/:app/secretkeys',
    why: 'there are no keys that the server uses for you: keep a key as a secret, and use it in the app',
  },
  {
    path: '/v1/apps/:app/network_policies',
    why: 'there are no rules for single machines: an app on a network of its own is reached by none of another',
  },
  { path: '/v1/tokens/oidc', why: 'machines have no identity towards others yet' },
  {
    path: '/v1/postgres',
    why: 'there are no managed databases: run one as an app',
  },
]
