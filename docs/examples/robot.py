"""A robot with six skills, which finds out what is wanted."""

from portico import Client
from portico.flow import intent, llm, pipeline, switch, tool, value

PAINTER = "现在你是一位绘图提示词大师，能够将用户输入的任意中文内容转换成英文绘图提示词，在本任务中你需要将任意输入内容转换成英文绘图提示词，并且你可以丰富和扩充提示词内容。"
MUSICIAN = "现在你是一位作曲提示词大师，能够将用户输入的任意中文内容转换成英文作曲提示词，在本任务中你需要将任意输入内容转换成英文作曲提示词，并且你可以丰富和扩充提示词内容。"

robot = switch(
    {
        "聊天": llm("default", history=True),
        "语音识别": tool("transcribe", file=value, model="SenseVoiceSmall"),
        "图片问答": llm("Mini-InternVL-Chat-2B-V1-5"),
        "画图": pipeline(
            llm("default", system=PAINTER), tool("draw", prompt=value, model="stable-diffusion-3-medium")
        ),
        "生成音乐": pipeline(
            llm("default", system=MUSICIAN), tool("speak", text=value, model="musicgen-small")
        ),
        "文字转语音": tool("speak", text=value, model="ChatTTS"),
    },
    on=intent(history=True),
)

if __name__ == "__main__":
    Client().apps.deploy("robot", robot)
