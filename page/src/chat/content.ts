// The content of a message, in the format of OpenAI's API.

export type Part =
  | { type: "text"; text: string }
  | { type: "image_url"; image_url: { url: string } }
  | { type: "file"; file: { file_id: string; filename: string } }
  | { type: string };

export type Content = string | Part[];
